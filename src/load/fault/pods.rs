//! Faults through the Kubernetes API.

use crate::cluster::pods::Hands;

/// Deletes the Pods of a selector.
///
/// # Errors
/// What the API server said, or that there are none.
pub(super) async fn delete(hands: &Hands, namespace: &str, selector: &str) -> Result<(), String> {
    let deleted = hands.delete_pods(namespace, selector).await;
    deleted.map(drop).map_err(|error| error.to_string())
}

/// Starts a rollout.
///
/// # Errors
/// What the API server said.
pub(super) async fn restart(
    hands: &Hands,
    namespace: &str,
    kind: &str,
    name: &str,
) -> Result<(), String> {
    hands.restart(namespace, kind, name).await.map_err(|error| error.to_string())
}
