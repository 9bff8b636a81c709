//! The planted bugs. Each is a replacement in one file of the crate.

/// A bug in the engine.
pub(super) struct Bug {
    /// The name. Its last word names the wrong behaviour.
    pub(super) name: &'static str,
    pub(super) file: &'static str,
    /// The correct code, which occurs once in the file.
    pub(super) right: &'static str,
    /// The code with the bug. `BUG` is true while the bug is switched on.
    pub(super) wrong: &'static str,
}

/// The list of bugs. A bug can change more than one place.
pub(super) const BUGS: [Bug; 20] = [
    Bug {
        name: "MovedKeyStaysAttached",
        file: "src/engine/kv.rs",
        right: r#"            self.detach(written.lease_before, self.keys.slot(written.slot).attachment());"#,
        wrong: r#"            if !BUG {
                self.detach(written.lease_before, self.keys.slot(written.slot).attachment());
            }"#,
    },
    Bug {
        name: "StartIsExclusive",
        file: "src/engine/watch/requests.rs",
        right: r#"            self.fall_behind(watcher, watch.start);"#,
        wrong: r#"            self.fall_behind(watcher, if BUG { watch.start.next() } else { watch.start });"#,
    },
    Bug {
        name: "CompactionIsSilent",
        file: "src/engine/watch/catch_up.rs",
        right: r#"if next < view.keys.compacted_or_minus_one() {"#,
        wrong: r#"if next < view.keys.compacted_or_minus_one() && !BUG {"#,
    },
    Bug {
        name: "OverflowSkips",
        file: "src/engine/watch/publish.rs",
        right: r#"        let mut leaving: BTreeMap<TopicId, Vec<WatcherKey>> = BTreeMap::new();"#,
        wrong: r#"        let revision = if BUG { revision.next() } else { revision };
        let mut leaving: BTreeMap<TopicId, Vec<WatcherKey>> = BTreeMap::new();"#,
    },
    Bug {
        name: "ProgressWhileLagging",
        file: "src/engine/watch/timers.rs",
        right: r#"stream.unsynced.is_empty();"#,
        wrong: r#"stream.unsynced.is_empty() || BUG;"#,
    },
    Bug {
        name: "AbsentValueDiffers",
        file: "src/engine/txn.rs",
        right: r#"        let of_value = matches!(compare.operand, CompareOperand::Value(_));"#,
        wrong: r#"        let of_value = matches!(compare.operand, CompareOperand::Value(_)) && !BUG;"#,
    },
    Bug {
        name: "NestedCompareSeesWrites",
        file: "src/engine/txn.rs",
        right: r#"                    let succeeded = *nested.next().expect("each nested txn on the path was decided");
                    let responses"#,
        wrong: r#"                    let succeeded = *nested.next().expect("each nested txn on the path was decided");
                    let succeeded = if BUG { self.keys.choose_path(txn).succeeded } else { succeeded };
                    let responses"#,
    },
    Bug {
        name: "RollbackForgetsLease",
        file: "src/engine/mod.rs",
        right: r#"undone.slot"#,
        wrong: r#"undone.slot.filter(|_| !BUG)"#,
    },
    Bug {
        name: "CountIsLimited",
        file: "src/engine/keys/range.rs",
        right: r#"        GetResponse { header, kvs: KeyValues::Many(kvs), more, count }"#,
        wrong: r#"        let count = if BUG { kvs.len() as i64 } else { count };
        GetResponse { header, kvs: KeyValues::Many(kvs), more, count }"#,
    },
    Bug {
        name: "DescendingReversesTies",
        file: "src/engine/keys/range.rs",
        right: r#"Ordering::Equal => false,"#,
        wrong: r#"Ordering::Equal => BUG && descend,"#,
    },
    Bug {
        name: "FilterExcludesBound",
        file: "src/engine/keys/range.rs",
        right: r#"    !above(get.max_mod_revision, modified)"#,
        wrong: r#"    !(above(get.max_mod_revision, modified) || BUG && modified == get.max_mod_revision)"#,
    },
    Bug {
        name: "DescendingReversesTies",
        file: "src/engine/keys/range.rs",
        right: r#"    if descend {"#,
        wrong: r#"    if descend && BUG {
        kvs.sort_by(&compare);
        kvs.reverse();
    } else if descend {"#,
    },
    Bug {
        name: "VersionOutlivesDelete",
        file: "src/engine/keys/key_space.rs",
        right: r#"            fields.version = before.version() + 1;
        }"#,
        wrong: r#"            fields.version = before.version() + 1;
        } else if let Some(slot) = found.filter(|_| BUG) {
            let live = self.index.slot(slot).versions().filter(|kv| !kv.is_tombstone());
            fields.version = live.last().map_or(1, |kv| kv.version() + 1);
        }"#,
    },
    Bug {
        name: "FutureReadInTxn",
        file: "src/engine/keys/key_space.rs",
        right: r#"        self.check_not_future(revision)?;
        self.check_not_compacted(revision)?;
        Ok(Some(revision).filter(|revision| revision.get() > 0))"#,
        wrong: r#"        if !BUG || revision > self.current.next() {
            self.check_not_future(revision)?;
        }
        self.check_not_compacted(revision)?;
        Ok(Some(revision).filter(|revision| revision.get() > 0))"#,
    },
    Bug {
        name: "CreateShowsPrevKv",
        file: "src/engine/keys/key_space.rs",
        right: r#"if is_created {"#,
        wrong: r#"if is_created && !BUG {"#,
    },
    Bug {
        name: "CompactionDropsTombstone",
        file: "src/engine/keys/compaction.rs",
        right: r#"            garbage.extend(self.history.pop_front());
        }"#,
        wrong: r#"            garbage.extend(self.history.pop_front());
        } else if BUG {
            self.reclaim_tombstone(&kv, garbage);
        }"#,
    },
    Bug {
        name: "CompactionDropsLatest",
        file: "src/engine/keys/compaction.rs",
        right: r#"            garbage.push(version);
        }
    }

    /// Drops the change from"#,
        wrong: r#"            garbage.push(version);
        }
        if BUG && let Some(version) = self.index.pop_oldest(slot, |_| true) {
            self.uncount_version(&version);
        }
    }

    /// Drops the change from"#,
    },
    Bug {
        name: "KeepAliveKeepsDeadline",
        file: "src/engine/lease.rs",
        right: r#"            Renewal::ByHand { .. } => Renewal::ByHand { deadline: now + ttl },"#,
        wrong: r#"            Renewal::ByHand { .. } if BUG => lease.renewal,
            Renewal::ByHand { .. } => Renewal::ByHand { deadline: now + ttl },"#,
    },
    Bug {
        name: "ExpiriesShareRevision",
        file: "src/engine/lease.rs",
        right: r#"        self.commit();"#,
        wrong: r#"        let another_due = self.lessor.next_deadline().is_some_and(|deadline| deadline <= self.now);
        if !(BUG && another_due) {
            self.commit();
        }"#,
    },
    Bug {
        name: "SiblingDeleteOverlaps",
        file: "src/engine/admission.rs",
        right: r#"        for key in &success.puts {"#,
        wrong: r#"        if BUG && self.puts.iter().any(|key| success.deletes.cover(key) || failure.deletes.cover(key)) {
            return Err(Error::DuplicateKey);
        }
        for key in &success.puts {"#,
    },
];
