//! Between which values a scalar quantizer divides the elements of the stored vectors.

use std::ops::{Range, RangeInclusive};

use arrow_array::cast::AsArray;
use arrow_array::types::{Float16Type, Float32Type, Float64Type};
use arrow_array::{Array, ArrowPrimitiveType, FixedSizeListArray};

use crate::error::{Error, Result};

/// Steps of a quantizer of 8 bits.
const STEPS: f64 = 255.0;
/// The share of elements that a quantizer which is there already may move farther than rounding does.
const MISPLACED: f64 = 0.01;

/// The bounds of a quantizer for some vectors: those of one that is there already if they fit, or else the least and
/// the greatest element.
///
/// # Errors
/// [`Error::NotInLance`] if a bound would not be finite: Lance could not read the file.
pub(super) fn of(
    stored: impl Iterator<Item = Result<FixedSizeListArray>>,
    taken: Option<Range<f64>>,
) -> Result<Range<f64>> {
    let mut spread = Spread::new(taken);
    for vectors in stored {
        spread.add(&vectors?);
    }
    spread.bounds()
}

/// Where elements lie.
#[derive(Debug)]
pub(super) struct Spread {
    /// The bounds that are there already.
    taken: Option<Range<f64>>,
    least: f64,
    greatest: f64,
    elements: usize,
    /// Elements that are more than a step outside of these bounds.
    misplaced: usize,
}

impl Spread {
    pub fn new(taken: Option<Range<f64>>) -> Self {
        // Between bounds that are equal all of Lance's distances are 0, to whatever query.
        let taken = taken.filter(|taken| taken.start < taken.end);
        Self { taken, least: f64::INFINITY, greatest: f64::NEG_INFINITY, elements: 0, misplaced: 0 }
    }

    pub fn add(&mut self, stored: &FixedSizeListArray) {
        let places = self.taken.as_ref().map(with_a_step);
        for_each(stored.values(), |x| {
            self.least = self.least.min(x);
            self.greatest = self.greatest.max(x);
            self.elements += 1;
            self.misplaced += usize::from(places.as_ref().is_some_and(|places| !places.contains(&x)));
        });
    }

    /// The bounds for what was added.
    pub fn bounds(&self) -> Result<Range<f64>> {
        match &self.taken {
            Some(taken) if self.misplaced as f64 <= self.elements as f64 * MISPLACED => Ok(taken.clone()),
            _ => self.own(),
        }
    }

    fn own(&self) -> Result<Range<f64>> {
        let mut bounds = short(self.least)..short(self.greatest);
        if bounds.is_empty() {
            // All elements are the same.
            let width = bounds.start.abs().max(1.0);
            bounds = short(bounds.start - width)..short(bounds.start + width);
        }
        if bounds.start.is_finite() && bounds.end.is_finite() {
            return Ok(bounds);
        }
        let actual = format!("{}..{}", bounds.start, bounds.end);
        Err(Error::NotInLance { what: "scalar quantizer with bounds", actual })
    }
}

/// The values that a quantizer with these bounds moves by a step at most.
fn with_a_step(bounds: &Range<f64>) -> RangeInclusive<f64> {
    let step = (bounds.end - bounds.start) / STEPS;
    bounds.start - step..=bounds.end + step
}

/// Visits the elements of floats.
fn for_each(values: &dyn Array, mut visit: impl FnMut(f64)) {
    fn each<T: ArrowPrimitiveType>(values: &dyn Array, visit: &mut impl FnMut(f64))
    where
        T::Native: Into<f64>,
    {
        if let Some(values) = values.as_primitive_opt::<T>() {
            values.values().iter().for_each(|&x| visit(x.into()));
        }
    }
    each::<Float16Type>(values, &mut visit);
    each::<Float32Type>(values, &mut visit);
    each::<Float64Type>(values, &mut visit);
}

/// A bound with so few digits that it comes out of JSON as it went in: the last of 17 digits may not, and Lance merges
/// only segments whose bounds are equal.
fn short(bound: f64) -> f64 {
    format!("{bound:.11e}").parse().unwrap_or(bound)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lance::columns::lists;
    use crate::vectors::ElementType;

    const FLOATS: [ElementType; 3] = [ElementType::Float16, ElementType::Float32, ElementType::Float64];

    fn bounds(element_type: ElementType, values: &[f32], taken: Option<Range<f64>>) -> Result<Range<f64>> {
        of(values.chunks(4).map(|row| lists(element_type, row.len(), row.to_vec())), taken)
    }

    #[test]
    fn they_are_the_extremes_of_all_batches() {
        for element_type in FLOATS {
            let found = bounds(element_type, &[0.5, 2.0, -0.25, 1.0, 0.0, -3.0, 1.0, 1.5], None).unwrap();
            assert_eq!(found, -3.0..2.0);
        }
    }

    #[test]
    fn elements_that_are_all_the_same_get_bounds_apart() {
        for element_type in FLOATS {
            assert_eq!(bounds(element_type, &[0.25; 8], None).unwrap(), -0.75..1.25);
            assert_eq!(bounds(element_type, &[-64.0; 8], None).unwrap(), -128.0..0.0);
            // Bounds that tell nothing apart are not taken over.
            assert_eq!(bounds(element_type, &[0.0; 8], Some(0.0..0.0)).unwrap(), -1.0..1.0);
        }
    }

    #[test]
    fn bounds_that_fit_are_taken_over() {
        // 1 % of 400 elements are 4.
        let values = |outside: usize| -> Vec<f32> {
            (0..400).map(|i| if i < outside { 3.0 } else { 1.0 + i as f32 / 512.0 }).collect()
        };
        let taken = Some(0.0..2.0);
        assert_eq!(bounds(ElementType::Float32, &values(4), taken.clone()).unwrap(), 0.0..2.0);
        let own = bounds(ElementType::Float32, &values(5), taken.clone()).unwrap();
        assert_eq!((own.start, own.end), (1.0 + 5.0 / 512.0, 3.0));
        // A step beyond a bound is no farther off than what is rounded.
        assert_eq!(bounds(ElementType::Float32, &[2.0 + 1.0 / 255.0; 8], taken).unwrap(), 0.0..2.0);
    }

    #[test]
    fn bounds_that_are_not_finite_are_refused() {
        for values in [[1.0, f32::INFINITY], [f32::NEG_INFINITY, 0.0], [f32::INFINITY, f32::INFINITY]] {
            let error = bounds(ElementType::Float32, &values, None).unwrap_err();
            assert!(
                matches!(error, Error::NotInLance { what: "scalar quantizer with bounds", .. }),
                "{error}"
            );
        }
        let error = bounds(ElementType::Float32, &[], None).unwrap_err().to_string();
        assert!(error.starts_with("Lance has no scalar quantizer with bounds "), "{error}");
    }

    #[test]
    fn short_bounds_survive_json() {
        for bound in [-1.4_f32, 0.0, 0.1, 1.0e-5, 1234.567].map(f64::from) {
            let short = short(bound);
            assert!((short - bound).abs() <= bound.abs() * 1e-11, "{bound} and {short}");
            let mut read = short;
            for _ in 0..3 {
                read = serde_json::from_str(&serde_json::to_string(&read).unwrap()).unwrap();
                assert_eq!(read, short);
            }
        }
    }
}
