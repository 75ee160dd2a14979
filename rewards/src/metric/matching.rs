//! The best one-to-one assignment between two small sets (Kuhn 1955, in the shortest-augmenting-path form).

/// The greatest total gain when every row and every column is used at most once.
///
/// `gain(row, column)` must be finite and not negative. Time `O(min² · max)` in the numbers of rows and columns.
pub fn best_assignment(num_rows: usize, num_columns: usize, gain: impl Fn(usize, usize) -> f64) -> f64 {
    best_pairs(num_rows, num_columns, &gain).into_iter().map(|(row, column)| gain(row, column)).sum()
}

/// The pairs `(row, column)` of [`best_assignment`]: as many as the smaller side has, those without gain included.
pub fn best_pairs(
    num_rows: usize,
    num_columns: usize,
    gain: impl Fn(usize, usize) -> f64,
) -> Vec<(usize, usize)> {
    if num_rows > num_columns {
        let pairs = assign(num_columns, num_rows, |column, row| gain(row, column));
        pairs.into_iter().map(|(column, row)| (row, column)).collect()
    } else {
        assign(num_rows, num_columns, gain)
    }
}

/// [`best_pairs`] for at most as many rows as columns.
fn assign(num_rows: usize, num_columns: usize, gain: impl Fn(usize, usize) -> f64) -> Vec<(usize, usize)> {
    // Rows are added one by one; each finds the cheapest alternating path to a free column under the potentials `u`, `v`,
    // with cost = -gain. Column 0 is a sentinel that holds the row being added; real columns start at 1.
    let mut u = vec![0.0; num_rows + 1];
    let mut v = vec![0.0; num_columns + 1];
    let mut row_of = vec![0; num_columns + 1];
    for row in 1..=num_rows {
        row_of[0] = row;
        let mut came_from = vec![0; num_columns + 1];
        let mut slack = vec![f64::INFINITY; num_columns + 1];
        let mut done = vec![false; num_columns + 1];
        let mut at = 0;
        while row_of[at] != 0 {
            done[at] = true;
            let current = row_of[at];
            let (mut step, mut next) = (f64::INFINITY, 0);
            for column in 1..=num_columns {
                if done[column] {
                    continue;
                }
                let reduced = -gain(current - 1, column - 1) - u[current] - v[column];
                if reduced < slack[column] {
                    slack[column] = reduced;
                    came_from[column] = at;
                }
                if slack[column] < step {
                    step = slack[column];
                    next = column;
                }
            }
            for column in 0..=num_columns {
                if done[column] {
                    u[row_of[column]] += step;
                    v[column] -= step;
                } else {
                    slack[column] -= step;
                }
            }
            at = next;
        }
        while at != 0 {
            row_of[at] = row_of[came_from[at]];
            at = came_from[at];
        }
    }
    (1..=num_columns)
        .filter(|&column| row_of[column] != 0)
        .map(|column| (row_of[column] - 1, column - 1))
        .collect()
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};

    use super::best_assignment;

    fn by_trying_all(rows: &[usize], columns: &mut Vec<usize>, gain: &dyn Fn(usize, usize) -> f64) -> f64 {
        let Some((&row, rest)) = rows.split_first() else {
            return 0.0;
        };
        let mut best = by_trying_all(rest, columns, gain);
        for place in 0..columns.len() {
            let column = columns.remove(place);
            best = best.max(gain(row, column) + by_trying_all(rest, columns, gain));
            columns.insert(place, column);
        }
        best
    }

    #[test]
    fn equals_trying_all() {
        let seed = 7;
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
        for round in 0..300 {
            let (num_rows, num_columns) = (rng.random_range(0..6), rng.random_range(0..6));
            let table: Vec<f64> = (0..36)
                .map(|_| if rng.random_bool(0.3) { 0.0 } else { rng.random_range(0.0..1.0) })
                .collect();
            let gain = |row: usize, column: usize| table[row * 6 + column];
            let rows: Vec<usize> = (0..num_rows).collect();
            let expected = by_trying_all(&rows, &mut (0..num_columns).collect(), &gain);
            let found = best_assignment(num_rows, num_columns, gain);
            assert!((found - expected).abs() < 1e-12, "seed {seed}, round {round}: {found} and {expected}");
        }
    }
}
