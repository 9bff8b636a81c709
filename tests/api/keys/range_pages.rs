//! Reads of a range page by page at one revision (R-RNG-12).

use leasehold::{Error, Get, KeyRange, KeyValue, Page, SortOrder, SortTarget, Store};
use leasehold_testkit::helpers::{
    all_keys, at, delete, grant, keys, manual, put, put_leased, secs, show_all,
};

/// Returns a store with the keys k00 to k24, put at the revisions 2 to 26.
fn twenty_five() -> Store {
    let store = Store::new();
    for n in 0..25 {
        store.put((format!("k{n:02}"), format!("{n}"))).expect("the put is valid");
    }
    store
}

fn pages(store: &Store, get: Get, size: usize) -> Vec<Vec<KeyValue>> {
    let pages = store.range_pages(get, size).expect("the read is valid");
    pages.map(|page| page.expect("the revision of the pages is not compacted")).collect()
}

/// The pages together equal one read of the range. Each page but the last is full.
#[test]
fn pages_together_equal_the_range() {
    let store = twenty_five();
    let gets = [
        Get::all(),
        Get::prefix("k1"),
        Get::range(KeyRange::between("k03", "k21")),
        Get::range(KeyRange::from_key("k20")),
        Get::key("k07"),
        Get::key("absent"),
        Get::range(KeyRange::between("z", "a")),
        Get::all().at(10),
        Get::all().at(1),
        Get::all().at(-5),
        Get::all().limit(7),
        Get::all().limit(10),
        Get::all().limit(-1),
        Get::all().limit(100),
        Get::all().keys_only(),
        Get::prefix("k").limit(3).keys_only().at(20),
        Get::all().sort(SortTarget::Key, SortOrder::Ascend),
        Get::all().serializable(),
    ];
    for get in gets {
        let whole = store.get(get.clone()).unwrap();
        for size in [1, 2, 5, 7, 24, 25, 26, usize::MAX] {
            let pages = pages(&store, get.clone(), size);
            assert_eq!(pages.concat(), whole.kvs(), "{get:?} by {size}");
            // An empty range has no page.
            let expected = whole.kvs().len().div_ceil(size);
            assert_eq!(pages.len(), expected, "{get:?} by {size}");
            assert!(pages.iter().rev().skip(1).all(|page| page.len() == size));
        }
    }
}

/// A page size of 0 counts as 1. A read with `count_only` has no pages.
#[test]
fn zero_page_size_counts_as_one_and_count_only_has_no_pages() {
    let store = twenty_five();
    assert_eq!(pages(&store, Get::all(), 0).len(), 25);
    let counted = store.range_pages(Get::all().count_only(), 10).unwrap();
    assert_eq!((counted.revision(), counted.count()), (at(26), 0));
}

/// Pages are read at the revision of the call or at the requested one, so writes between two pages do not show.
#[test]
fn pages_do_not_show_later_writes() {
    let store = twenty_five();
    let expected = store.get(Get::all()).unwrap();
    let mut pages = store.range_pages(Get::all(), 10).unwrap();
    assert_eq!(pages.revision(), at(26));
    put(&store, "k05", "written before the first page");
    let mut seen = pages.next().unwrap().unwrap();
    delete(&store, "k15");
    put(&store, "k12a", "written between two pages");
    put(&store, "k24", "x");
    for page in pages.by_ref() {
        seen.extend(page.unwrap());
    }
    assert_eq!(seen, expected.kvs());
    assert_eq!(pages.next(), None);
    assert_eq!(store.range_pages(Get::all(), 10).unwrap().revision(), at(30));
    let old = store.range_pages(Get::all().at(12), 4).unwrap();
    assert_eq!(old.revision(), at(12));
    assert_eq!(old.map(|page| page.unwrap().len()).collect::<Vec<_>>(), [4, 4, 3]);
    assert_eq!(store.range_pages(Get::all().at(0), 4).unwrap().revision(), at(30));
}

/// A compaction above the revision ends the pages with an error. A compaction at the revision does not.
#[test]
fn compaction_above_the_revision_ends_the_pages() {
    let store = twenty_five();
    let mut pages = store.range_pages(Get::all(), 10).unwrap();
    assert_eq!(keys(&pages.next().unwrap().unwrap())[9], "k09");
    put(&store, "new", "v");
    store.compact(26).unwrap();
    assert_eq!(keys(&pages.next().unwrap().unwrap())[9], "k19", "the compacted revision itself can be read");
    store.compact(27).unwrap();
    let compacted = Error::Compacted { requested: at(26), compacted: Some(at(27)) };
    assert_eq!(pages.next(), Some(Err(compacted)));
    assert_eq!((pages.next(), pages.next()), (None, None));
}

/// The limit is known to be reached without another read, so a later compaction does not turn the end into an error.
#[test]
fn pages_at_their_limit_end_without_a_read() {
    let store = twenty_five();
    let mut pages = store.range_pages(Get::all().limit(4), 2).unwrap();
    assert_eq!(pages.by_ref().take(2).map(|page| page.unwrap().len()).sum::<usize>(), 4);
    put(&store, "new", "v");
    store.compact(27).unwrap();
    assert_eq!(pages.next(), None);
}

#[test]
fn range_pages_refuses_sorts_filters_and_unreadable_revisions() {
    let store = twenty_five();
    store.compact(5).unwrap();
    let refusal = |get| store.range_pages(get, 10).map(|pages| pages.revision());
    let descending = Get::all().sort(SortTarget::Key, SortOrder::Descend);
    let by_value = Get::all().sort(SortTarget::Value, SortOrder::Ascend);
    let unknown = Get::all().sort(SortTarget::Unrecognized, SortOrder::None);
    for sorted in [descending, by_value] {
        assert_eq!(refusal(sorted.clone()), Err(Error::PageSortUnsupported));
        assert_eq!(
            refusal(sorted.min_mod_revision(3)),
            Err(Error::PageSortUnsupported),
            "the sort is checked before the filters"
        );
    }
    for filtered in [
        Get::all().min_mod_revision(1),
        Get::all().max_mod_revision(-1),
        Get::all().min_create_revision(100),
        Get::all().max_create_revision(1),
    ] {
        assert_eq!(refusal(filtered), Err(Error::PageFilterUnsupported));
    }
    assert_eq!(refusal(unknown), Err(Error::InvalidSort));
    assert_eq!(refusal(Get::key("")), Err(Error::EmptyKey));
    assert_eq!(refusal(Get::range(KeyRange::from_wire("", "\0"))), Err(Error::EmptyKey));
    let compacted = Error::Compacted { requested: at(4), compacted: Some(at(5)) };
    assert_eq!(refusal(Get::all().at(4)), Err(compacted));
    assert_eq!(refusal(Get::all().at(27)), Err(Error::FutureRevision { requested: at(27), current: at(26) }));
    assert_eq!(refusal(Get::all().at(5)), Ok(at(5)));
}

/// Pairs in pages have their leases and revisions. A page is limited by its number of pairs, not by its bytes.
#[test]
fn pages_contain_whole_pairs() {
    let (store, _clock) = manual();
    grant(&store, 7, secs(10));
    put_leased(&store, &["a", "b", "c"], 7);
    let large = vec![b'x'; 1_000_000];
    for key in ["d", "e"] {
        store.put((key, large.clone())).unwrap();
    }
    let pages = pages(&store, Get::all(), 3);
    assert_eq!(show_all(&pages[0]), ["a=v 2/2/1 #7", "b=v 3/3/1 #7", "c=v 4/4/1 #7"]);
    assert_eq!(pages[1].iter().map(|kv| kv.value().len()).collect::<Vec<_>>(), [1_000_000; 2]);
}

/// At a page's end, keys that are prefixes of each other or end in zero bytes are neither skipped nor repeated.
#[test]
fn pages_split_between_any_two_keys() {
    let store = Store::new();
    for key in ["a", "a\0", "a\0\0", "a\0a", "aa", "a\u{7f}", "b", "\0", "\0\0"] {
        put(&store, key, "v");
    }
    for size in 1..=9 {
        assert_eq!(keys(&pages(&store, Get::all(), size).concat()), all_keys(&store), "by {size}");
        assert_eq!(pages(&store, Get::range(KeyRange::between("a", "a\0\u{1}")), size).concat().len(), 3);
    }
}

/// The iterator holds the store, so it can outlive the handle that created it.
#[test]
fn pages_outlive_the_store_handle() {
    let store = twenty_five();
    let pages = store.range_pages(Get::all(), 10).unwrap();
    drop(store);
    assert_eq!(pages.map(|page| page.unwrap().len()).collect::<Vec<_>>(), [10, 10, 5]);
}

/// Each page but the last is followed by another, and all are read at one revision.
#[test]
fn page_after_returns_the_next_page_at_one_revision() {
    let store = twenty_five();
    let expected = store.get(Get::prefix("k1").keys_only()).unwrap();
    for size in [1, 3, 10, 11, usize::MAX] {
        let (mut next, mut seen) =
            (Some(Page::new(KeyRange::prefix("k1"), size).keys_only().at(26)), Vec::new());
        while let Some(page) = next {
            let response = store.page(page.clone()).unwrap();
            // The prefix k1 has ten keys. `min` avoids an overflow with the largest size.
            assert_eq!((response.revision(), response.more()), (at(26), seen.len() + size.min(11) < 10));
            assert_eq!(response.header(), store.status().unwrap().header());
            next = page.after(&response);
            seen.extend(response.kvs().to_vec());
            put(&store, "k10a", "later");
        }
        assert_eq!(seen, expected.kvs());
    }
}

#[test]
fn page_at_unreadable_revision_is_refused() {
    let store = twenty_five();
    store.compact(10).unwrap();
    let page = |revision| store.page(Page::new("k00", 1).at(revision)).map(|page| page.kvs().len());
    assert_eq!(
        (page(10), page(0), page(-1)),
        (Ok(1), Ok(1), Ok(1)),
        "a revision of 0 or below reads the latest state"
    );
    assert_eq!(page(9), Err(Error::Compacted { requested: at(9), compacted: Some(at(10)) }));
    assert_eq!(page(27), Err(Error::FutureRevision { requested: at(27), current: at(26) }));
    assert_eq!(store.page(Page::new("", 1)), Err(Error::EmptyKey));
    store.close();
    assert_eq!(page(10), Err(Error::Stopped));
}
