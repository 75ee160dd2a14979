//! Fractal value noise: the stuff tissue, smoke and sensor grain are made of.

/// A map of numbers in 0..=1 with `width * height` entries, row by row.
pub(super) struct NoiseMap {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) values: Vec<f32>,
}

/// A hash of a lattice point, uniform in 0..1.
pub(super) fn lattice(x: u32, y: u32, seed: u32) -> f32 {
    let mut h = x.wrapping_mul(0x9E37_79B1) ^ y.wrapping_mul(0x85EB_CA77) ^ seed.wrapping_mul(0xC2B2_AE3D);
    h = (h ^ (h >> 15)).wrapping_mul(0x2C1B_3C6D);
    h = (h ^ (h >> 12)).wrapping_mul(0x297A_2D39);
    h ^= h >> 15;
    (h >> 8) as f32 / (1u32 << 24) as f32
}

/// Cubic ease between 0 and 1.
pub(super) fn smooth(t: f32) -> f32 {
    let t = t.clamp(0.0, 1.0);
    t * t * (3.0 - 2.0 * t)
}

impl NoiseMap {
    /// Sums `octaves` of value noise, the coarsest with cells of `cell_px`, each next one half the cell and weight.
    pub(super) fn fractal(width: usize, height: usize, cell_px: f32, octaves: u32, seed: u32) -> Self {
        let mut values = vec![0.0f32; width * height];
        let (mut cell, mut weight, mut total) = (cell_px, 1.0f32, 0.0f32);
        for octave in 0..octaves {
            add_octave(&mut values, width, cell, weight, seed.wrapping_add(octave * 7919));
            total += weight;
            cell = (cell * 0.5).max(1.0);
            weight *= 0.5;
        }
        for value in &mut values {
            *value /= total;
        }
        Self { width, height, values }
    }

    /// The value at a place, mirrored at the borders so that there are no seams.
    pub(super) fn sample_mirrored(&self, x: f32, y: f32) -> f32 {
        let fold = |v: f32, side: usize| {
            let i = (v as i32).rem_euclid(2 * side as i32) as usize;
            i.min(2 * side - 1 - i)
        };
        self.values[fold(y, self.height) * self.width + fold(x, self.width)]
    }
}

fn add_octave(values: &mut [f32], width: usize, cell: f32, weight: f32, seed: u32) {
    let columns: Vec<(u32, f32)> = (0..width)
        .map(|x| {
            let u = x as f32 / cell;
            (u as u32, smooth(u.fract()))
        })
        .collect();
    let num_nodes = columns.last().map_or(0, |&(node, _)| node as usize) + 2;
    let mut top = vec![0.0f32; num_nodes];
    let mut bottom = vec![0.0f32; num_nodes];
    let mut current_row = None;
    for (y, row) in values.chunks_exact_mut(width).enumerate() {
        let v = y as f32 / cell;
        let (node_y, fy) = (v as u32, smooth(v.fract()));
        if current_row != Some(node_y) {
            for node in 0..num_nodes {
                top[node] = lattice(node as u32, node_y, seed);
                bottom[node] = lattice(node as u32, node_y + 1, seed);
            }
            current_row = Some(node_y);
        }
        for (value, &(node, fx)) in row.iter_mut().zip(&columns) {
            let node = node as usize;
            let upper = top[node] + (top[node + 1] - top[node]) * fx;
            let lower = bottom[node] + (bottom[node + 1] - bottom[node]) * fx;
            *value += weight * (upper + (lower - upper) * fy);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::NoiseMap;

    #[test]
    fn fractal_noise_stays_in_range_varies_and_repeats_by_seed() {
        let map = NoiseMap::fractal(64, 48, 16.0, 4, 5);
        assert!(map.values.iter().all(|v| (0.0..=1.0).contains(v)));
        let mean = map.values.iter().sum::<f32>() / map.values.len() as f32;
        let variance = map.values.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / map.values.len() as f32;
        assert!(variance > 0.005, "{variance}");
        assert_eq!(map.values, NoiseMap::fractal(64, 48, 16.0, 4, 5).values);
        assert_ne!(map.values, NoiseMap::fractal(64, 48, 16.0, 4, 6).values);
    }
}
