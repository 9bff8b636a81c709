use bytes::Bytes;

/// What a key or a value can be given as.
///
/// `Bytes`, `Vec<u8>` and `String` are taken as they are; what is only borrowed is copied.
///
/// ```
/// use leasehold::Store;
///
/// let store = Store::new();
/// let name = String::from("config/mode");
/// store.put((&name, b"blue"))?;
/// store.put((name.as_str(), 3_u64.to_be_bytes()))?;
/// let kv = store.get(&name)?.kvs()[0].clone();
/// store.put((kv.key(), "green"))?;
/// assert_eq!(store.get(name)?.kvs()[0].value_str(), Ok("green"));
/// # Ok::<(), leasehold::Error>(())
/// ```
pub trait IntoBytes {
    /// The same as `Bytes`.
    fn into_bytes(self) -> Bytes;
}

impl IntoBytes for Bytes {
    fn into_bytes(self) -> Bytes {
        self
    }
}

impl IntoBytes for &Bytes {
    fn into_bytes(self) -> Bytes {
        self.clone()
    }
}

impl IntoBytes for Vec<u8> {
    fn into_bytes(self) -> Bytes {
        self.into()
    }
}

impl IntoBytes for &Vec<u8> {
    fn into_bytes(self) -> Bytes {
        Bytes::copy_from_slice(self)
    }
}

impl IntoBytes for String {
    fn into_bytes(self) -> Bytes {
        self.into()
    }
}

impl IntoBytes for &String {
    fn into_bytes(self) -> Bytes {
        Bytes::copy_from_slice(self.as_bytes())
    }
}

impl IntoBytes for &str {
    fn into_bytes(self) -> Bytes {
        Bytes::copy_from_slice(self.as_bytes())
    }
}

impl IntoBytes for &[u8] {
    fn into_bytes(self) -> Bytes {
        Bytes::copy_from_slice(self)
    }
}

impl<const N: usize> IntoBytes for [u8; N] {
    fn into_bytes(self) -> Bytes {
        Bytes::copy_from_slice(&self)
    }
}

impl<const N: usize> IntoBytes for &[u8; N] {
    fn into_bytes(self) -> Bytes {
        Bytes::copy_from_slice(self)
    }
}
