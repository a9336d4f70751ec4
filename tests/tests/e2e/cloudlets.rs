//! Several clients, several cloudlets: each gets one backend of its own.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::thread;

use serde_json::{Value, json};
use sinfonia_tests::{Running, eventually};
use sinfonia_wire::PublicKey;
use uuid::Uuid;

use crate::setup::{Cloudlet, FETCH, Setup, ask, deployments, get, url, wait_for_cloudlets, world_with_identity};

/// Two cloudlets of one tier1.
fn two_cloudlets() -> (Setup, Cloudlet, String) {
    let (world, application) = world_with_identity();
    let setup = Setup::with(world, &[]);
    let other = Cloudlet::start(&setup.world, "other", &setup.tier1_url(), &[]);
    wait_for_cloudlets(&setup.tier1, 2);
    (setup, other, application)
}

/// The path of a deployment for a client that nobody has seen before.
fn new_path(application: &str) -> String {
    let mut key = [0; 32];
    key[..16].copy_from_slice(Uuid::new_v4().as_bytes());
    format!("/api/v1/deploy/{application}/{}", PublicKey::from(key).url_safe())
}

fn only(list: &Value) -> &Value {
    let list = list.as_array().unwrap();
    assert_eq!(list.len(), 1, "{list:?}");
    &list[0]
}

fn first_line(client: &Running) -> String {
    eventually("the client says something", || client.output().contains('\n'));
    client.output().lines().next().unwrap().to_owned()
}

#[test]
fn clients_of_one_recipe_have_backends_of_their_own_and_cannot_reach_each_other() {
    let (world, application) = world_with_identity();
    let setup = Setup::with(world, &[]);
    // One shows a page of its own, in its end of the tunnel, to whoever can reach it.
    let site = setup.world.path("site");
    std::fs::create_dir(&site).unwrap();
    std::fs::write(site.join("index.html"), "of the first client").unwrap();
    let serve = format!(
        "busybox httpd -p 8080 -h {}
         address=$(busybox ip -4 -o address show scope global | sed 's/.*inet //; s,[ /].*,,')
         page=$(busybox wget -q -O- http://$address:8080/)
         echo \"$address $(timeout --foreground 10 busybox wget -q -O- http://helloworld/) $page\"
         exec busybox sleep 1000",
        site.display()
    );
    let first = setup.client_of("one", &[], &application, &["sh", "-c", &serve]);
    let said = first_line(&first);
    let [address, identity, page] = said.splitn(3, ' ').collect::<Vec<_>>()[..] else { panic!("{said}") };
    assert_eq!(page, "of the first client", "the page is there for who can reach it");

    let reach = format!(
        "for url in helloworld 10.96.0.80 {address}:8080 {address}; do
             timeout --foreground 3 busybox wget -q -O- http://$url/ || echo nothing
         done"
    );
    let second = setup.client_of("two", &[], &application, &["sh", "-c", &reach]).finish();
    let pages: Vec<_> = second.output.lines().collect();
    assert_eq!(pages.len(), 4, "{}{}", second.output, second.errors);
    assert!(pages[0].parse::<Uuid>().is_ok() && pages[0] != identity, "{pages:?} beside {identity}");
    assert_eq!(pages[1..], [pages[0], "nothing", "nothing"]);
    assert_eq!(setup.deployments(), 2);
    assert_eq!(first.stop().code(), 143);
}

#[test]
fn two_runs_of_one_user_do_not_disturb_each_other() {
    let (world, application) = world_with_identity();
    let setup = Setup::with(world, &[]);
    let go = setup.world.path("go");
    let script = format!(
        "timeout --foreground 10 busybox wget -q -O- http://helloworld/ || exit 1
         while [ ! -e {} ]; do busybox sleep 0.05; done
         exec timeout --foreground 10 busybox wget -q -O- http://helloworld/",
        go.display()
    );
    let long = setup.client(&[], &application, &["sh", "-c", &script]);
    let identity = first_line(&long);
    let short = setup.client(&[], &application, &FETCH).finish();
    assert_eq!(short.code(), 0, "{}", short.errors);
    assert_ne!(short.output.trim(), identity);
    assert_eq!(setup.deployments(), 1, "nobody can come back to a key of one run, so it was released");

    std::fs::write(go, "").unwrap();
    let long = long.finish();
    assert_eq!((long.code(), long.output), (0, format!("{identity}\n{identity}\n")), "{}", long.errors);
}

#[test]
fn simultaneous_requests_make_one_deployment() {
    let (setup, other, application) = two_cloudlets();
    let request = setup.tier1_url() + &new_path(&application);
    let asking: Vec<_> = (0..64)
        .map(|_| {
            let request = request.clone();
            thread::spawn(move || ask("POST", &request))
        })
        .collect();
    let mut answers: Vec<_> = asking.into_iter().map(|thread| thread.join().unwrap()).collect();
    let (status, answer) = answers.pop().unwrap();
    assert_eq!((status, &only(&answer)["Status"]), (200, &json!("Deployed")), "{answer}");
    assert!(answers.iter().all(|other| *other == (status, answer.clone())), "{answers:?}");
    assert_eq!(setup.deployments() + deployments(&other.tier2), 1);
}

#[test]
fn repeats_end_at_the_cloudlet_of_the_first() {
    let (world, application) = world_with_identity();
    let tier1 = world.tier1(&["-m", "random"]);
    let cloudlets = ["a", "b", "c", "d"].map(|name| Cloudlet::start(&world, name, &url(&tier1), &[]));
    wait_for_cloudlets(&tier1, cloudlets.len());
    // Each under many names more, so that chance leads nowhere twice.
    let known: Value = serde_json::from_str(&get(&(url(&tier1) + "/api/v1/cloudlets/"))).unwrap();
    for info in known.as_array().unwrap().iter().cycle().take(96) {
        report(&tier1, &info["endpoint"], &json!([]));
    }
    wait_for_cloudlets(&tier1, 100);

    let everywhere = || cloudlets.iter().map(|cloudlet| deployments(&cloudlet.tier2)).sum::<usize>();
    let request = url(&tier1) + &new_path(&application);
    let answers: Vec<_> = (0..20).map(|_| ask("POST", &request)).collect();
    assert!(answers.iter().all(|answer| answer.0 == 200 && *answer == answers[0]), "{answers:?}");
    assert_eq!(everywhere(), 1);
    assert_eq!(ask("DELETE", &request).0, 204);
    assert_eq!(everywhere(), 0);
}

#[test]
fn more_results_than_cloudlets_are_as_many_as_there_are() {
    let (setup, other, application) = two_cloudlets();
    let request = setup.tier1_url() + &new_path(&application);
    let (status, made) = ask("POST", &(request.clone() + "?results=3"));
    assert_eq!((status, made.as_array().unwrap().len()), (200, 2), "{made}");
    assert_eq!((setup.deployments(), deployments(&other.tier2)), (1, 1));
    assert_eq!(ask("DELETE", &request).0, 204);
    assert_eq!((setup.deployments(), deployments(&other.tier2)), (0, 0));
}

#[test]
fn the_first_tunnel_that_answers_is_taken_and_the_other_released() {
    let (setup, other, application) = two_cloudlets();
    setup.relay.drop_all(true);
    let client = setup.client(&["--results", "2"], &application, &FETCH).finish();
    assert_eq!(client.code(), 0, "{}", client.errors);
    assert!(client.output.trim().parse::<Uuid>().is_ok(), "{}", client.output);
    assert_eq!((setup.deployments(), deployments(&other.tier2)), (0, 1));
    assert!(!other.relay.capture().is_empty());
}

#[test]
fn a_client_can_name_the_cloudlet_and_see_the_candidates() {
    let (setup, other, application) = two_cloudlets();
    let request = setup.tier1_url() + &new_path(&application);

    let (status, candidates) = ask("GET", &(request.clone() + "?results=3"));
    assert_eq!(status, 200, "{candidates}");
    let mut names: Vec<_> = candidates.as_array().unwrap().iter().map(|info| info["name"].as_str().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names, ["cloudlet", "other"]);
    assert_eq!(setup.deployments() + deployments(&other.tier2), 0, "looking deploys nothing");

    for info in candidates.as_array().unwrap() {
        let uuid = &info["uuid"];
        let there = format!("{request}?cloudlet={}", uuid.as_str().unwrap());
        assert_eq!(ask("GET", &there).0, 404, "not yet there");
        let (status, made) = ask("POST", &there);
        assert_eq!((status, &only(&made)["Cloudlet"]), (200, uuid), "{made}");
        assert_eq!(ask("GET", &there), (200, made));
    }
    assert_eq!((setup.deployments(), deployments(&other.tier2)), (1, 1));
    for (info, left) in candidates.as_array().unwrap().iter().zip([1, 0]) {
        assert_eq!(ask("DELETE", &format!("{request}?cloudlet={}", info["uuid"].as_str().unwrap())).0, 204);
        assert_eq!(setup.deployments() + deployments(&other.tier2), left);
    }
    assert_eq!(ask("POST", &format!("{request}?cloudlet={}", Uuid::new_v4())).0, 404);
}

/// Makes a cloudlet known that does not report itself.
fn report(tier1: &Running, endpoint: &Value, locations: &Value) {
    let report = json!({"uuid": Uuid::new_v4(), "endpoint": endpoint, "locations": locations}).to_string();
    let request = ureq::post(url(tier1) + "/api/v1/cloudlets/").header("Content-Type", "application/json");
    assert_eq!(request.send(report).unwrap().status(), 204);
}

/// What a broken cloudlet says to each request; nothing: it takes the request and is silent.
fn broken_cloudlet(answer: Option<&'static str>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        let mut silent = Vec::new();
        for mut stream in listener.incoming().map_while(Result::ok) {
            let _ = stream.read(&mut [0; 4096]);
            match answer {
                Some(answer) => drop(stream.write_all(answer.as_bytes())),
                None => silent.push(stream),
            }
        }
    });
    port
}

#[test]
fn broken_cloudlets_do_not_spoil_the_others() {
    let place = "40.44,-79.94";
    for (what, port) in [
        ("refuses", 1),
        ("hangs", broken_cloudlet(None)),
        ("fails", broken_cloudlet(Some("HTTP/1.1 500 Oops\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"))),
        ("babbles", broken_cloudlet(Some("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\n[}x"))),
        ("is no server", broken_cloudlet(Some("SSH-2.0-nothing\r\n"))),
    ] {
        let (world, application) = world_with_identity();
        let setup = Setup::with(world, &[]);
        // Nearest to the client, so that it is asked first.
        report(&setup.tier1, &json!(format!("http://127.0.0.1:{port}/api/v1/deploy")), &json!([[40.44, -79.94]]));
        let client = setup.client(&["--release", "--location", place], &application, &FETCH).finish();
        assert_eq!(client.code(), 0, "one {what}: {}", client.errors);
        assert_eq!(setup.deployments(), 0);
    }
}
