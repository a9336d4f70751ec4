//! The exchanges recorded from the reference's tier2, replayed.

use crate::{
    compare::{Comparison, Given, recorded},
    server::{Home, Server},
};

#[actix_web::test]
async fn recorded_exchanges_are_answered_alike() {
    let home = Home::new();
    let server = Server::in_home(&home).await;
    let mut comparison = Comparison::default();
    for exchange in recorded() {
        let request = &exchange["request"];
        let method = request["method"].as_str().unwrap().parse().unwrap();
        let answer = server.request(method, request["path"].as_str().unwrap()).await;
        let given = Given { status: answer.status, content_type: &answer.content_type, body: &answer.body };
        comparison.check(&exchange, &given);
    }
    comparison.finish();
    server.stop().await;
}
