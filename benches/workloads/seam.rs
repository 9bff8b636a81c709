//! The cost of calling the store through a client.

use std::hint::black_box;

use bytes::Bytes;
use leasehold::{Compare, CompareOp, Store, Txn, TxnOp};

use super::keys::Stock;
use super::subjects::loaded;
use super::{Duel, in_pieces};

/// Gets through the client, compared with the store's own.
pub fn get(keys: usize) -> Duel {
    let (store, mut stock) = store_of(keys);
    let (client, mut again) = (store.client(), stock.clone());
    Duel {
        store: Box::new(move |calls| {
            in_pieces(
                calls,
                |piece| stock.gets(piece),
                |key| {
                    let response = client.get(key).wait().expect("a get is accepted");
                    black_box(response.kvs()[0].value());
                },
            )
        }),
        rival: Box::new(move |calls| {
            in_pieces(
                calls,
                |piece| again.gets(piece),
                |key| {
                    let response = store.get(key).expect("a get is accepted");
                    black_box(response.kvs()[0].value());
                },
            )
        }),
    }
}

/// Txns of a compare and a put through the client, compared with the store's own.
pub fn txn(keys: usize) -> Duel {
    let (store, mut stock) = store_of(keys);
    let (client, mut again) = (store.client(), stock.clone());
    Duel {
        store: Box::new(move |calls| {
            in_pieces(
                calls,
                |piece| stock.puts(piece),
                |call| {
                    let answer = client.txn(put_if_there(call)).wait().expect("a txn is accepted");
                    assert!(black_box(answer).succeeded());
                },
            )
        }),
        rival: Box::new(move |calls| {
            in_pieces(
                calls,
                |piece| again.puts(piece),
                |call| {
                    let answer = store.txn(put_if_there(call)).expect("a txn is accepted");
                    assert!(black_box(answer).succeeded());
                },
            )
        }),
    }
}

fn store_of(keys: usize) -> (Store, Stock) {
    let mut stock = Stock::new(keys);
    let pairs = stock.pairs();
    (loaded(Store::new(), pairs), stock)
}

fn put_if_there((key, value): (Bytes, Bytes)) -> Txn {
    let is_there = Compare::create_revision(key.clone(), CompareOp::Greater, 0);
    Txn::new().when([is_there]).and_then([TxnOp::put(key, value)])
}
