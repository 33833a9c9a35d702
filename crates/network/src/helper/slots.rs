//! Things that come and go, each known by a number that is never used again soon.

/// The place of a thing, with the count of things that had the place before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    index: u32,
    generation: u16,
}

impl Key {
    /// For the numbers of watched descriptors: 48 bits.
    pub(crate) fn to_bits(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    /// What [`Key::to_bits`] gave, whatever is above its 48 bits.
    pub(crate) fn from_bits(bits: u64) -> Self {
        Self { index: bits as u32, generation: (bits >> 32) as u16 }
    }
}

/// The things.
#[derive(Debug)]
pub(crate) struct Slots<T> {
    places: Vec<(u16, Option<T>)>,
    free: Vec<u32>,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self { places: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slots<T> {
    /// Takes a thing in.
    pub(crate) fn insert(&mut self, thing: T) -> Key {
        let index = self.free.pop().unwrap_or_else(|| {
            self.places.push((0, None));
            // As many as there are descriptors at most.
            (self.places.len() - 1) as u32
        });
        let place = &mut self.places[index as usize];
        place.1 = Some(thing);
        Key { index, generation: place.0 }
    }

    pub(crate) fn get(&self, key: Key) -> Option<&T> {
        let (generation, thing) = self.places.get(key.index as usize)?;
        thing.as_ref().filter(|_| *generation == key.generation)
    }

    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let (generation, thing) = self.places.get_mut(key.index as usize)?;
        thing.as_mut().filter(|_| *generation == key.generation)
    }

    /// Gives a thing out; its key means nothing any more.
    pub(crate) fn remove(&mut self, key: Key) -> Option<T> {
        self.get(key)?;
        let place = &mut self.places[key.index as usize];
        place.0 = place.0.wrapping_add(1);
        self.free.push(key.index);
        place.1.take()
    }

    pub(crate) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Key, &T)> {
        self.places.iter().enumerate().filter_map(|(index, (generation, thing))| {
            Some((Key { index: index as u32, generation: *generation }, thing.as_ref()?))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_key_finds_nothing() {
        let mut slots = Slots::default();
        let first = slots.insert("a");
        assert_eq!(Key::from_bits(first.to_bits() | 7 << 56), first);
        assert_eq!(slots.remove(first), Some("a"));
        let second = slots.insert("b");
        assert_ne!(first, second);
        assert_eq!((slots.get(first), slots.get(second), slots.len()), (None, Some(&"b"), 1));
        assert_eq!(slots.remove(first), None);
        *slots.get_mut(second).unwrap() = "c";
        assert_eq!(slots.iter().collect::<Vec<_>>(), [(second, &"c")]);
        assert_eq!(Key::from_bits(second.to_bits()), second);
    }
}
