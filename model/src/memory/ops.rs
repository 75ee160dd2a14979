//! The operations that models are made of, on tensors without numbers.

use super::tape::{Asked, NUMBER, Order, Shadow, Tape, binary, in_order, new, unary};

/// An operation of our own (docs/decisions/008), in numbers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Own {
    /// Length of the output.
    pub(super) output: usize,
    /// What it keeps for the backward pass besides inputs and output.
    pub(super) kept: usize,
    /// What it takes for itself, forward and backward.
    pub(super) working: [usize; 2],
}

impl Own {
    /// One that writes its output number by number.
    pub(super) fn plain(output: usize) -> Self {
        Self { output, kept: 0, working: [0, 0] }
    }
}

impl Tape {
    /// `xW + b`: `[rows, input]` to `[rows, output]`.
    pub(super) fn linear(&self, x: Shadow, weight: &Shadow, bias: Option<&Shadow>, output: usize) -> Shadow {
        let (x_node, weight_node, bias_node) = (x.node(), weight.node(), bias.and_then(Shadow::node));
        let (x_len, weight_len) = (x.len, weight.len);
        let out = self.product(x.len / (weight.len / output) * output);
        let kept = weight.is_tracked().then_some(x);
        self.step(out, &[x_node, weight_node, bias_node], move |asked, grad| {
            if x_node.is_some() {
                let of_x = asked.product(x_len);
                asked.register(x_node, of_x);
            }
            if weight_node.is_some() {
                let of_weight = asked.product(weight_len);
                drop(kept);
                asked.register(weight_node, of_weight);
            }
            if bias_node.is_some() {
                let of_bias = asked.tensor(output);
                asked.register(bias_node, of_bias);
            }
            drop(grad);
        })
    }

    /// `[.., rows, inner]` × `[.., inner, columns]`, whose product has `output` numbers.
    pub(super) fn matmul(&self, left: Shadow, right: Shadow, output: usize) -> Shadow {
        let (left_node, right_node) = (left.node(), right.node());
        let (left_len, right_len) = (left.len, right.len);
        let out = self.product(output);
        let kept = (right_node.is_some().then_some(left), left_node.is_some().then_some(right));
        self.step(out, &[left_node, right_node], move |asked, grad| {
            let (left, right) = kept;
            if left_node.is_some() {
                let of_left = asked.product(left_len);
                drop(right);
                asked.register(left_node, of_left);
            }
            if right_node.is_some() {
                let of_right = asked.product(right_len);
                drop(left);
                asked.register(right_node, of_right);
            }
            drop(grad);
        })
    }

    /// Rows as columns.
    pub(super) fn transpose(&self, x: Shadow) -> Shadow {
        let turned = |x: Shadow| {
            let (len, order) = (x.len, x.order);
            x.view(len, if order == Order::Strided { Order::Whole } else { Order::Strided })
        };
        let node = x.node();
        self.step(turned(x), &[node], move |asked, grad| asked.register(node, turned(grad)))
    }

    /// The sum of two of the same length, or of one and a row or column.
    pub(super) fn add(&self, left: Shadow, right: Shadow) -> Shadow {
        let nodes = [left.node(), right.node()];
        let lens = [left.len, right.len];
        let out = binary(&self.arena, left, &right);
        drop(right);
        self.step(out, &nodes, move |asked, grad| {
            let [of_left, of_right] = nodes.map(|node| node.map(|_| grad.clone()));
            drop(grad);
            for ((node, len), value) in nodes.into_iter().zip(lens).zip([of_left, of_right]) {
                let Some(value) = value else { continue };
                let value = if value.len == len { value } else { asked.tensor(len) };
                asked.register(node, value);
            }
        })
    }

    /// The product of the same.
    pub(super) fn mul(&self, left: Shadow, right: Shadow) -> Shadow {
        let nodes = [left.node(), right.node()];
        let lens = [left.len, right.len];
        let kept = [nodes[0].is_some().then(|| right.clone()), nodes[1].is_some().then(|| left.clone())];
        let arena = self.arena.clone();
        let out = binary(&arena, left, &right);
        drop(right);
        self.step(out, &nodes, move |asked, grad| {
            let grads = nodes.map(|node| node.map(|_| grad.clone()));
            drop(grad);
            for (((node, len), grad), other) in nodes.into_iter().zip(lens).zip(grads).zip(kept) {
                let (Some(grad), Some(other)) = (grad, other) else { continue };
                let value = binary(&arena, grad, &other);
                let value = if value.len == len { value } else { asked.tensor(len) };
                asked.register(node, value);
            }
        })
    }

    /// The quotient of one and a row or column, or of two of the same length.
    pub(super) fn div(&self, left: Shadow, right: Shadow) -> Shadow {
        let nodes = [left.node(), right.node()];
        let right_len = right.len;
        let kept_left = nodes[1].is_some().then(|| left.clone());
        let kept_right = (nodes[0].is_some() || nodes[1].is_some()).then(|| right.clone());
        let arena = self.arena.clone();
        let out = binary(&arena, left, &right);
        drop(right);
        self.step(out, &nodes, move |asked, grad| {
            let grads = nodes.map(|node| node.map(|_| grad.clone()));
            drop(grad);
            let [of_left, of_right] = grads;
            if let (Some(grad), Some(right)) = (of_left, &kept_right) {
                let inverse = asked.tensor(right.len);
                asked.register(nodes[0], binary(&arena, grad, &inverse));
            }
            if let (Some(grad), Some(left)) = (of_right, kept_left) {
                let negated = unary(&arena, left);
                let value = binary(&arena, grad, &negated);
                let value = if value.len == right_len { value } else { asked.tensor(right_len) };
                asked.register(nodes[1], value);
            }
        })
    }

    /// A function of each number whose backward pass wants its input, and makes `working` tensors of that size.
    pub(super) fn map(&self, x: Shadow, working: usize) -> Shadow {
        let node = x.node();
        let kept = node.is_some().then(|| x.clone());
        let arena = self.arena.clone();
        let out = unary(&arena, x);
        self.step(out, &[node], move |asked, grad| {
            let made: Vec<Shadow> =
                kept.iter().flat_map(|x| (0..working).map(|_| asked.tensor(x.len))).collect();
            drop(kept);
            let value = binary(&arena, grad, made.first().unwrap_or(&asked.tensor(0)));
            asked.register(node, value);
        })
    }

    /// Each number times or plus a constant.
    pub(super) fn scale(&self, x: Shadow) -> Shadow {
        let node = x.node();
        let arena = self.arena.clone();
        let out = unary(&arena, x);
        self.step(out, &[node], move |asked, grad| asked.register(node, unary(&arena, grad)))
    }

    /// Sums of `output` equal shares of the numbers; `working` tensors of the input's size are made on the way back.
    pub(super) fn sum(&self, x: Shadow, output: usize) -> Shadow {
        let (node, len) = (x.node(), x.len);
        let out = self.tensor(output);
        drop(x);
        self.step(out, &[node], move |asked, grad| {
            let ones = asked.tensor(len);
            drop(grad);
            asked.register(node, ones);
        })
    }

    /// Some of the numbers; `neighbours` says that they lie side by side.
    pub(super) fn narrow(&self, x: Shadow, len: usize, neighbours: bool) -> Shadow {
        let (node, whole) = (x.node(), x.len);
        let order = match (len == whole, neighbours && x.order != Order::Strided) {
            (true, _) => x.order,
            (false, true) => Order::Part,
            (false, false) => Order::Strided,
        };
        let arena = self.arena.clone();
        self.step(x.view(len, order), &[node], move |asked, grad| {
            let all = asked.product(whole);
            // The value is written from numbers that fill their block.
            let value = if grad.order == Order::Whole { grad } else { new(&arena, grad.len) };
            drop(value);
            asked.register(node, all);
        })
    }

    /// One behind the other; `rows` says that they are put together along the first axis.
    pub(super) fn cat(&self, parts: Vec<Shadow>, rows: bool) -> Shadow {
        let nodes: Vec<_> = parts.iter().map(Shadow::node).collect();
        let lens: Vec<usize> = parts.iter().map(|part| part.len).collect();
        let single = parts.len() == 1;
        let mut parts = parts;
        let out = match parts.pop() {
            Some(only) if single => only,
            last => {
                let out = self.tensor(lens.iter().sum());
                drop(last);
                out
            }
        };
        drop(parts);
        self.step(out, &nodes.clone(), move |asked, grad| {
            for (node, len) in nodes.into_iter().zip(lens) {
                let order = if len == grad.len {
                    grad.order
                } else if rows {
                    Order::Part
                } else {
                    Order::Strided
                };
                asked.register(node, grad.clone().view(len, order));
            }
        })
    }

    /// Rows of a tensor, `len` numbers of them.
    pub(super) fn select(&self, x: Shadow, len: usize) -> Shadow {
        let (node, whole) = (x.node(), x.len);
        let out = {
            let _copy = (x.order != Order::Whole).then(|| self.tensor(x.len));
            self.tensor(len)
        };
        drop(x);
        self.step(out, &[node], move |asked, grad| {
            let zeros = asked.product(whole);
            let found = asked.tensor(whole);
            drop((zeros, grad));
            asked.register(node, found);
        })
    }

    /// The same numbers in another order.
    pub(super) fn copy(&self, x: Shadow) -> Shadow {
        let (node, len) = (x.node(), x.len);
        let out = self.tensor(len);
        drop(x);
        self.step(out, &[node], move |asked, grad| {
            let back = asked.tensor(len);
            drop(grad);
            asked.register(node, back);
        })
    }

    /// An operation of our own.
    pub(super) fn own<const N: usize>(&self, inputs: [Shadow; N], op: Own) -> Shadow {
        let Own { output, kept, working: [forward, backward] } = op;
        let nodes = inputs.each_ref().map(Shadow::node);
        let inputs = inputs.map(|input| in_order(&self.arena, input));
        let out = self.tensor(output);
        let kept = self.tensor(kept);
        self.arena.pass(forward * NUMBER);
        let state = (inputs, out.clone().detached(), kept);
        let arena = self.arena.clone();
        self.step(out, &nodes, move |asked: &mut Asked, grad| {
            let (inputs, out, kept) = state;
            let grad = in_order(&arena, grad);
            let found = inputs.each_ref().map(|input| asked.tensor(input.len));
            arena.pass(backward * NUMBER);
            for (node, value) in nodes.into_iter().zip(found) {
                asked.register(node, value);
            }
            drop((inputs, out, kept, grad));
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{super::arena::Arena, *};

    #[test]
    fn a_product_keeps_what_its_gradients_need() {
        let arena = Arena::default();
        let tape = Tape::new(&arena);
        let weight = tape.leaf(tape.resting(6));
        let x = tape.tensor(8);
        // Four rows of two numbers to four rows of three; nothing is asked of `x`, so only it is kept.
        let y = tape.linear(x, &weight, None, 3);
        let loss = tape.sum(y, 1);
        let mut asked = tape.gradients(loss);
        assert_eq!(asked.take(&weight).map(|found| found.len), Some(6));
        // The input (8), what is asked of the output (12) and of the weight (6); before, input, output and loss (21).
        assert_eq!(arena.peak(), NUMBER * 26);
    }

    #[test]
    fn a_sum_goes_where_nobody_looks() {
        let arena = Arena::default();
        let tape = Tape::new(&arena);
        let (a, b) = (tape.tensor(10), tape.tensor(10));
        let sum = tape.add(a, b.clone());
        assert_eq!(arena.peak(), NUMBER * 20);
        let second = tape.add(sum.clone(), b);
        assert_eq!((arena.peak(), second.len), (NUMBER * 30, 10));
    }
}
