//! Durable documents of other parts of the engine, kept in the one database.

use redb::{ReadableDatabase, ReadableTable, TableDefinition, TableError};

use crate::Store;
use crate::error::Result;

/// The documents of one kind: a key and bytes each.
#[derive(Debug, Clone, Copy)]
pub struct Documents<'store> {
    store: &'store Store,
    kind: &'static str,
}

impl Store {
    /// The documents of `kind`, as `volumes`. Kinds are tables: they must not be named as one of the store's own.
    #[must_use]
    pub const fn documents(&self, kind: &'static str) -> Documents<'_> {
        Documents { store: self, kind }
    }
}

impl Documents<'_> {
    fn table(&self) -> TableDefinition<'static, &'static str, &'static [u8]> {
        TableDefinition::new(self.kind)
    }

    /// All documents, sorted by key.
    ///
    /// # Errors
    /// When the database fails.
    pub fn all(&self) -> Result<Vec<(String, Vec<u8>)>> {
        let read = self.store.database.begin_read()?;
        let table = match read.open_table(self.table()) {
            Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
            other => other?,
        };
        let mut all = Vec::new();
        for item in table.iter()? {
            let (key, value) = item?;
            all.push((key.value().to_owned(), value.value().to_vec()));
        }
        Ok(all)
    }

    /// Writes a document; on the disk when this returns.
    ///
    /// # Errors
    /// When the database fails.
    pub fn put(&self, key: &str, bytes: &[u8]) -> Result<()> {
        let write = self.store.database.begin_write()?;
        write.open_table(self.table())?.insert(key, bytes)?;
        write.commit()?;
        Ok(())
    }

    /// Writes documents in one transaction; on the disk when this returns.
    ///
    /// # Errors
    /// When the database fails.
    pub fn put_all(&self, documents: &[(String, Vec<u8>)]) -> Result<()> {
        self.put_durably(documents, redb::Durability::Immediate)
    }

    /// [`Self::put_all`], on the disk only with what is written after it: nobody waits for that.
    ///
    /// # Errors
    /// When the database fails.
    pub fn put_all_lazily(&self, documents: &[(String, Vec<u8>)]) -> Result<()> {
        self.put_durably(documents, redb::Durability::None)
    }

    fn put_durably(&self, documents: &[(String, Vec<u8>)], durability: redb::Durability) -> Result<()> {
        if documents.is_empty() {
            return Ok(());
        }
        let mut write = self.store.database.begin_write()?;
        write.set_durability(durability)?;
        {
            let mut table = write.open_table(self.table())?;
            for (key, bytes) in documents {
                table.insert(key.as_str(), bytes.as_slice())?;
            }
        }
        write.commit()?;
        Ok(())
    }

    /// Removes documents in one transaction; those that are not there are fine.
    ///
    /// # Errors
    /// When the database fails.
    pub fn remove_all(&self, keys: &[String]) -> Result<()> {
        if keys.is_empty() {
            return Ok(());
        }
        let write = self.store.database.begin_write()?;
        {
            let mut table = write.open_table(self.table())?;
            for key in keys {
                table.remove(key.as_str())?;
            }
        }
        write.commit()?;
        Ok(())
    }

    /// Removes a document; one that is not there is fine.
    ///
    /// # Errors
    /// When the database fails.
    pub fn remove(&self, key: &str) -> Result<()> {
        let write = self.store.database.begin_write()?;
        write.open_table(self.table())?.remove(key)?;
        write.commit()?;
        Ok(())
    }
}
