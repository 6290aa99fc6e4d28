//! Where clients can be, and which regions are nearest to each place.
//!
//! Places are those of the table and the regions themselves. A place that is in no table (a region
//! of another name) is nearest to itself; the regions whose distance is not known come last, in the
//! order of the list.

/// Round trips in milliseconds. They are rough, and only their order counts.
///
/// Tokyo to Singapore: 74 ms on average between AWS's regions
/// (<https://acomputerscientistlearnsaws.blogspot.com/2017/04/aws-regions.html>). No table with
/// AWS's Taiwan region is public. Its figures follow from 2,100 km to Tokyo and 3,250 km to
/// Singapore: light in glass goes 204 km in a millisecond, and cables are about half as long again
/// (<https://areapac-161.pages.dev/en/kb/latency-explained>).
const ROUND_TRIPS_MS: [(&str, &str, u32); 3] =
    [("taiwan", "tokyo", 31), ("taiwan", "singapore", 48), ("tokyo", "singapore", 74)];

/// Where a client is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Place(usize);

/// The places, each with the regions in the order of their distance.
#[derive(Debug)]
pub(super) struct Places(Vec<(String, Vec<usize>)>);

impl Places {
    pub(super) fn new(regions: &[&str]) -> Self {
        let table = ROUND_TRIPS_MS.iter().flat_map(|(one, other, _)| [*one, *other]);
        let mut places: Vec<(String, Vec<usize>)> = Vec::new();
        for place in regions.iter().copied().chain(table) {
            if places.iter().any(|(name, _)| name == place) {
                continue;
            }
            let distance = |region: &&str| round_trip_ms(place, region).unwrap_or(u32::MAX);
            let mut nearest: Vec<(usize, u32)> = regions.iter().map(distance).enumerate().collect();
            // Stable: equal distances stay in the order of the list.
            nearest.sort_by_key(|(_, distance)| *distance);
            places.push((place.to_owned(), nearest.into_iter().map(|(region, _)| region).collect()));
        }
        Self(places)
    }

    /// The place of this name.
    pub(super) fn find(&self, name: &str) -> Option<Place> {
        self.0.iter().position(|(place, _)| place == name).map(Place)
    }

    /// The regions by their index, the nearest one first.
    pub(super) fn nearest(&self, place: Place) -> &[usize] {
        &self.0[place.0].1
    }

    /// The names, for the error about an unknown one.
    pub(super) fn names(&self) -> String {
        self.0.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ")
    }
}

fn round_trip_ms(from: &str, to: &str) -> Option<u32> {
    if from == to {
        return Some(0);
    }
    let found = ROUND_TRIPS_MS
        .iter()
        .find(|(one, other, _)| (*one, *other) == (from, to) || (*one, *other) == (to, from));
    found.map(|(_, _, round_trip_ms)| *round_trip_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nearest(regions: &[&'static str], place: &str) -> Option<Vec<&'static str>> {
        let places = Places::new(regions);
        let place = places.find(place)?;
        Some(places.nearest(place).iter().map(|region| regions[*region]).collect())
    }

    #[test]
    fn regions_are_ordered_by_their_distance_from_the_place() {
        let regions = ["taiwan", "tokyo", "singapore"];
        for order in [
            ["taiwan", "tokyo", "singapore"],
            ["tokyo", "taiwan", "singapore"],
            ["singapore", "taiwan", "tokyo"],
        ] {
            assert_eq!(nearest(&regions, order[0]).unwrap(), order);
        }
    }

    #[test]
    fn a_place_needs_no_region_of_its_own() {
        assert_eq!(nearest(&["singapore", "tokyo"], "taiwan").unwrap(), ["tokyo", "singapore"]);
    }

    #[test]
    fn a_region_that_is_in_no_table_is_nearest_to_itself_and_far_from_the_rest() {
        let regions = ["north", "singapore", "south", "tokyo"];
        assert_eq!(nearest(&regions, "south").unwrap(), ["south", "north", "singapore", "tokyo"]);
        assert_eq!(nearest(&regions, "tokyo").unwrap(), ["tokyo", "singapore", "north", "south"]);
        assert_eq!(nearest(&regions, "east"), None);
    }
}
