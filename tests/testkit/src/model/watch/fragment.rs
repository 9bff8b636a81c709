//! Long responses in pieces (R-WCH-18).

use super::super::super::wire::WatchResponse;
use super::super::proto;

/// The pieces of a response; itself, if it is short enough or cannot be divided. (A header has a few bytes more than the one
/// that is counted here, so only what is well beside the limit can be told.)
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
