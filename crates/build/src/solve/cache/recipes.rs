//! What results were made of, and the keys that they are kept under.

use std::collections::{HashMap, HashSet};

use wharf_oci::Digest;
use wharf_store::{Error, Store};

use super::Cache;

/// The kind of these among the store's documents.
const KIND: &str = "build-recipe";

/// All that are known.
#[derive(Debug, Default)]
pub(super) struct Recipes {
    keys: HashMap<Digest, Digest>,
    by_key: HashMap<Digest, Digest>,
    /// Those that the database does not have yet.
    dirty: HashSet<Digest>,
}

/// What the database is to learn.
pub(super) struct Changes {
    new: Vec<(String, Vec<u8>)>,
    gone: Vec<String>,
}

impl Recipes {
    /// Reads those whose results are there; the others go.
    pub(super) fn load(store: &Store, has: impl Fn(&Digest) -> bool) -> Result<Self, Error> {
        let documents = store.documents(KIND);
        let (mut recipes, mut gone) = (Self::default(), Vec::new());
        for (recipe, bytes) in documents.all()? {
            let key = std::str::from_utf8(&bytes).ok().and_then(|text| text.parse::<Digest>().ok());
            match recipe.parse().ok().zip(key.filter(&has)) {
                Some((recipe, key)) => {
                    recipes.keys.insert(recipe, key);
                    recipes.by_key.insert(key, recipe);
                }
                None => gone.push(recipe),
            }
        }
        documents.remove_all(&gone)?;
        Ok(recipes)
    }

    /// What changed since it was asked last; what has no result any more is forgotten.
    pub(super) fn changes(&mut self, has: impl Fn(&Digest) -> bool) -> Changes {
        let gone: Vec<Digest> =
            self.keys.iter().filter(|(_, key)| !has(key)).map(|(recipe, _)| *recipe).collect();
        for recipe in &gone {
            self.dirty.remove(recipe);
            let key = self.keys.remove(recipe);
            key.map(|key| self.by_key.remove(&key));
        }
        let new = self.dirty.drain().filter_map(|recipe| {
            Some((recipe.to_string(), self.keys.get(&recipe)?.to_string().into_bytes()))
        });
        Changes { new: new.collect(), gone: gone.iter().map(Digest::to_string).collect() }
    }
}

impl Changes {
    pub(super) fn write(&self, store: &Store) -> Result<(), Error> {
        let documents = store.documents(KIND);
        documents.remove_all(&self.gone)?;
        documents.put_all(&self.new)
    }
}

impl Cache {
    /// The key that the result of a recipe was kept under last.
    pub(in crate::solve) fn recalled(&self, recipe: &Digest) -> Option<Digest> {
        self.lock().recipes.keys.get(recipe).copied()
    }

    /// What the result of a key was made of, where its key does not say that.
    #[must_use]
    pub fn recipe_of(&self, key: &Digest) -> Option<Digest> {
        self.lock().recipes.by_key.get(key).copied()
    }

    pub(in crate::solve) fn has_recipes(&self) -> bool {
        !self.lock().recipes.keys.is_empty()
    }

    /// Takes note of the key of a recipe's result.
    pub(in crate::solve) fn remember(&self, recipe: Digest, key: Digest) {
        let recipes = &mut self.lock().recipes;
        if recipes.keys.insert(recipe, key) != Some(key) {
            recipes.dirty.insert(recipe);
        }
        recipes.by_key.insert(key, recipe);
    }
}
