//! Matrix products on slices, each on one thread: blocks are what runs side by side.

use gemm::Parallelism;

/// A matrix in a slice.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    pub(super) data: &'a [f32],
    /// Distance from one row to the next.
    pub(super) row: usize,
    /// Distance from one column to the next.
    pub(super) column: usize,
}

impl<'a> View<'a> {
    /// Rows of `row` numbers each.
    pub(super) fn rows(data: &'a [f32], row: usize) -> Self {
        Self { data, row, column: 1 }
    }

    pub(super) fn transposed(self) -> Self {
        Self { row: self.column, column: self.row, ..self }
    }

    fn holds(&self, rows: usize, columns: usize) -> bool {
        rows == 0 || columns == 0 || (rows - 1) * self.row + (columns - 1) * self.column < self.data.len()
    }
}

/// What becomes of the numbers that were there.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum To {
    Replace,
    Add,
}

/// `[rows, inner]` × `[inner, columns]` into `into`, whose rows are `stride` apart.
pub(super) fn product(
    (rows, inner, columns): (usize, usize, usize),
    lhs: View<'_>,
    rhs: View<'_>,
    to: To,
    into: &mut [f32],
    stride: usize,
) {
    assert!(lhs.holds(rows, inner) && rhs.holds(inner, columns), "operands are that large");
    assert!(columns <= stride && View::rows(into, stride).holds(rows, columns), "the result has room");
    let (add, one) = (to == To::Add, 1.0_f32);
    // SAFETY: the assertions keep every element of the three matrices inside of its slice, and the rows of the result
    // apart from each other.
    unsafe {
        gemm::gemm(
            rows,
            columns,
            inner,
            into.as_mut_ptr(),
            1,
            stride as isize,
            add,
            lhs.data.as_ptr(),
            lhs.column as isize,
            lhs.row as isize,
            rhs.data.as_ptr(),
            rhs.column as isize,
            rhs.row as isize,
            one,
            one,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_by_hand() {
        let lhs = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let rhs = [1.0, 0.0, 2.0, 1.0, 0.0, 3.0];
        // The right side transposed: columns (1, 0, 2) and (1, 0, 3).
        let mut into = [9.0; 6];
        product((2, 3, 2), View::rows(&lhs, 3), View::rows(&rhs, 3).transposed(), To::Replace, &mut into, 3);
        assert_eq!(into, [7.0, 10.0, 9.0, 16.0, 22.0, 9.0]);
        product((2, 3, 2), View::rows(&lhs, 3), View::rows(&rhs, 3).transposed(), To::Add, &mut into, 3);
        assert_eq!(into, [14.0, 20.0, 9.0, 32.0, 44.0, 9.0]);
    }
}
