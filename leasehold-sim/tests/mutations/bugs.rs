//! The planted bugs. Each is a replacement in one file of `leasehold`.

/// A bug in the engine.
pub(super) struct Bug {
    pub(super) name: &'static str,
    pub(super) file: &'static str,
    /// The correct code, which occurs once in the file.
    pub(super) right: &'static str,
    /// The code with the bug. `BUG` is true while the bug is switched on.
    pub(super) wrong: &'static str,
}

pub(super) const BUGS: [Bug; 12] = [
    Bug {
        name: "compaction drops events without a word",
        file: "src/engine/watch/catch_up.rs",
        right: r#"if next < view.keys.compacted_or_minus_one() {"#,
        wrong: r#"if next < view.keys.compacted_or_minus_one() && !BUG {"#,
    },
    Bug {
        name: "watch delivers an event twice",
        file: "src/engine/watch/requests.rs",
        right: r#"            self.fall_behind(watcher, watch.start);"#,
        wrong: r#"            let start = Revision::new((watch.start.get() - 3).max(1));
            self.fall_behind(watcher, if BUG { start } else { watch.start });"#,
    },
    Bug {
        name: "watch misses its first event",
        file: "src/engine/watch/requests.rs",
        right: r#"        if watch.start == Revision::new(0) || watch.start > view.keys.current() {"#,
        wrong: r#"        if BUG || watch.start == Revision::new(0) || watch.start > view.keys.current() {"#,
    },
    Bug {
        name: "read at a revision sees the one before",
        file: "src/engine/keys/key_space.rs",
        right: r#"        self.check_not_compacted(revision)?;
        Ok(Some(revision))"#,
        wrong: r#"        self.check_not_compacted(revision)?;
        let before = Revision::new((revision.get() - 1).max(1));
        Ok(Some(if BUG { before } else { revision }))"#,
    },
    Bug {
        name: "renewal does not extend a lease",
        file: "src/engine/lease.rs",
        right: r#"            Renewal::ByHand { .. } => Renewal::ByHand { deadline: now + ttl },"#,
        wrong: r#"            Renewal::ByHand { .. } if BUG => lease.renewal,
            Renewal::ByHand { .. } => Renewal::ByHand { deadline: now + ttl },"#,
    },
    Bug {
        name: "lease ends after half its time",
        file: "src/engine/lease.rs",
        right: r#"            if grant.standing { Renewal::standing(now) } else { Renewal::ByHand { deadline: now + ttl } };"#,
        wrong: r#"            if grant.standing {
                Renewal::standing(now)
            } else {
                Renewal::ByHand { deadline: now + if BUG { ttl / 2 } else { ttl } }
            };"#,
    },
    Bug {
        name: "compare of an absent key holds for a present one",
        file: "src/engine/txn.rs",
        right: r#"            number(|kv| kv.create_revision().get()).cmp(&operand.get())"#,
        wrong: r#"            number(|kv| if BUG { 0 } else { kv.create_revision().get() }).cmp(&operand.get())"#,
    },
    Bug {
        name: "count is that of the limited keys",
        file: "src/engine/keys/range.rs",
        right: r#"        GetResponse { header, kvs: KeyValues::Many(kvs), more, count }"#,
        wrong: r#"        let count = if BUG { kvs.len() as i64 } else { count };
        GetResponse { header, kvs: KeyValues::Many(kvs), more, count }"#,
    },
    Bug {
        name: "version outlives a deletion",
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
        name: "deletion in a txn counts one key too many",
        file: "src/engine/txn.rs",
        right: r#"        let (deleted, prev_kvs) = self.delete_keys(delete);"#,
        wrong: r#"        let (deleted, prev_kvs) = self.delete_keys(delete);
        let deleted = if BUG { deleted + 1 } else { deleted };"#,
    },
    Bug {
        name: "put without a lease leaves the key attached",
        file: "src/engine/kv.rs",
        right: r#"            self.detach(written.lease_before, self.keys.slot(written.slot).attachment());"#,
        wrong: r#"            if !BUG {
                self.detach(written.lease_before, self.keys.slot(written.slot).attachment());
            }"#,
    },
    Bug {
        name: "bound of a revision filter is excluded",
        file: "src/engine/keys/range.rs",
        right: r#"    !above(get.max_mod_revision, modified)"#,
        wrong: r#"    !(above(get.max_mod_revision, modified) || BUG && modified == get.max_mod_revision)"#,
    },
];
