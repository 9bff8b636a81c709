//! Fragments of long responses (R-WCH-18).

use super::super::super::wire::WatchResponse;
use super::super::proto;

/// Returns the fragments of a response, or the response itself if it is short enough or has one event.
///
/// etcd's header has a few bytes more than the one counted here. So lengths close to the limit can be split differently.
pub(super) fn pieces(response: WatchResponse, limit: usize) -> Vec<WatchResponse> {
    let is_too_long = |response: &WatchResponse| proto::watch_response(response).len() >= limit;
    if response.events.len() < 2 || !is_too_long(&response) {
        return vec![response];
    }
    let empty = WatchResponse { fragment: true, events: Vec::new(), ..response.clone() };
    let mut pieces = vec![empty.clone()];
    for event in response.events {
        let last = pieces.len() - 1;
        pieces[last].events.push(event);
        // An event that exceeds the limit alone has a fragment of its own.
        if pieces[last].events.len() > 1 && is_too_long(&pieces[last]) {
            let moved = pieces[last].events.pop();
            pieces.push(WatchResponse { events: moved.into_iter().collect(), ..empty.clone() });
        }
    }
    if let Some(last) = pieces.last_mut() {
        last.fragment = false;
    }
    pieces
}
