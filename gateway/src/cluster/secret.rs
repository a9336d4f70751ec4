//! The gateway's private key, kept in a secret so that a gateway on another node is the same one to clients.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, ObjectMeta, PostParams};
use kube::{Client, ResourceExt as _};
use sinfonia_tunnel::PrivateKey;

use super::{ClusterError, within};

const NAME: &str = "sinfonia-gateway";
const ENTRY: &str = "private-key";
const CONFLICT: u16 = 409;
/// Each attempt but the last met another writer, whose key is taken at the next.
const ATTEMPTS: usize = 5;

/// The key in the secret, made if there is none.
///
/// # Errors
/// See [`ClusterError`].
pub async fn private_key(client: &Client, namespace: &str) -> Result<PrivateKey, ClusterError> {
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    for _ in 0..ATTEMPTS {
        let secret = within(format!("read the secret {namespace}/{NAME}"), api.get_opt(NAME)).await?;
        if let Some(text) = secret.as_ref().and_then(|secret| secret.data.as_ref()?.get(ENTRY)) {
            let key = std::str::from_utf8(&text.0).ok().and_then(|text| text.parse().ok());
            return key.ok_or(ClusterError::BrokenKey { namespace: namespace.into(), name: NAME, key: ENTRY });
        }
        let key = PrivateKey::generate();
        let parameters = PostParams::default();
        let written = match secret {
            Some(mut secret) => {
                secret.data.get_or_insert_default().extend(entry(&key));
                // Carries the version that was read: another writer's change in between is a conflict.
                debug_assert!(secret.resource_version().is_some());
                within(format!("write the secret {namespace}/{NAME}"), api.replace(NAME, &parameters, &secret)).await
            }
            None => {
                let metadata = ObjectMeta { name: Some(NAME.into()), ..ObjectMeta::default() };
                let secret = Secret { metadata, data: Some(entry(&key)), ..Secret::default() };
                within(format!("make the secret {namespace}/{NAME}"), api.create(&parameters, &secret)).await
            }
        };
        match written {
            Ok(_) => return Ok(key),
            Err(error) if error.is_status(CONFLICT) => {}
            Err(error) => return Err(error),
        }
    }
    Err(ClusterError::Contention(NAME))
}

fn entry(key: &PrivateKey) -> BTreeMap<String, ByteString> {
    BTreeMap::from([(ENTRY.to_owned(), ByteString(key.to_base64().as_bytes().to_vec()))])
}
