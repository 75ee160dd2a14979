//! Tensors without numbers, and the graph of what was made of what: the sizes, sharing and lifetimes of burn's.
//!
//! The rules are those of burn-autodiff 0.21 without checkpointing: which inputs an operation keeps, in which order steps
//! run backward, and where gradients meet; and those of burn-flex 0.21: which operations copy, which give a view, and
//! which write in place.

use std::{cell::RefCell, collections::HashMap};

use super::arena::{Arena, Block};

/// Bytes of a number; every backend of the program computes in f32.
pub(super) const NUMBER: usize = 4;

/// How the numbers of a tensor lie in its block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// They fill it.
    Whole,
    /// They are neighbours in it.
    Part,
    /// They are not.
    Strided,
}

/// A tensor of `len` numbers that are not there.
#[derive(Clone, Debug)]
pub(super) struct Shadow {
    data: Block,
    pub(super) len: usize,
    pub(super) order: Order,
    node: Option<usize>,
}

impl Shadow {
    /// The same outside of any graph.
    pub(super) fn detached(self) -> Self {
        Self { node: None, ..self }
    }

    pub(super) fn is_tracked(&self) -> bool {
        self.node.is_some()
    }

    pub(super) fn node(&self) -> Option<usize> {
        self.node
    }

    /// The same numbers lying otherwise.
    pub(super) fn view(self, len: usize, order: Order) -> Self {
        Self { len, order, ..self }
    }

    /// Whether an operation with `other` on its right writes into this one.
    fn takes(&self, other: &Self) -> bool {
        self.is_free() && other.order != Order::Strided
    }

    /// Whether an operation on it alone writes into it.
    pub(super) fn is_free(&self) -> bool {
        self.data.is_unique() && self.order == Order::Whole
    }
}

/// What is asked of nodes during a backward pass, or found for leaves after it.
pub(super) struct Asked {
    arena: Arena,
    by_node: HashMap<usize, Shadow>,
}

impl Asked {
    /// A tensor of its own.
    pub(super) fn tensor(&self, len: usize) -> Shadow {
        new(&self.arena, len)
    }

    /// A product, or zeros.
    pub(super) fn product(&self, len: usize) -> Shadow {
        product(&self.arena, len)
    }

    /// Adds to what is asked of `node`, if that is part of the graph.
    pub(super) fn register(&mut self, node: Option<usize>, value: Shadow) {
        let Some(node) = node else { return };
        let value = match self.by_node.remove(&node) {
            Some(before) => binary(&self.arena, value, &before),
            None => value,
        };
        self.by_node.insert(node, value);
    }

    /// All that is left.
    pub(super) fn rest(self) -> impl Iterator<Item = Shadow> {
        self.by_node.into_values()
    }

    /// What is asked of a leaf; `None` if nothing is.
    pub(super) fn take(&mut self, leaf: &Shadow) -> Option<Shadow> {
        self.by_node.remove(&leaf.node?)
    }
}

type Backward = Box<dyn FnOnce(&mut Asked, Shadow)>;

struct Step {
    depth: usize,
    parents: Vec<usize>,
    /// None for leaves.
    backward: Option<Backward>,
}

/// A graph, which may stay empty.
pub(super) struct Tape {
    pub(super) arena: Arena,
    steps: RefCell<Vec<Option<Step>>>,
}

impl Tape {
    pub(super) fn new(arena: &Arena) -> Self {
        Self { arena: arena.clone(), steps: RefCell::default() }
    }

    /// A tensor of its own.
    pub(super) fn tensor(&self, len: usize) -> Shadow {
        new(&self.arena, len)
    }

    /// A product, or zeros.
    pub(super) fn product(&self, len: usize) -> Shadow {
        product(&self.arena, len)
    }

    /// One whose numbers rest outside of what is counted.
    pub(super) fn resting(&self, len: usize) -> Shadow {
        Shadow { data: self.arena.take(0), len, order: Order::Whole, node: None }
    }

    /// The tensor as a leaf.
    pub(super) fn leaf(&self, x: Shadow) -> Shadow {
        self.push(x, Vec::new(), None)
    }

    /// `out` as a node, if it has a parent.
    pub(super) fn step(
        &self,
        out: Shadow,
        parents: &[Option<usize>],
        backward: impl FnOnce(&mut Asked, Shadow) + 'static,
    ) -> Shadow {
        let parents: Vec<usize> = parents.iter().copied().flatten().collect();
        if parents.is_empty() {
            return out.detached();
        }
        self.push(out, parents, Some(Box::new(backward)))
    }

    fn push(&self, out: Shadow, parents: Vec<usize>, backward: Option<Backward>) -> Shadow {
        let mut steps = self.steps.borrow_mut();
        let depth_of = |parent: &usize| steps[*parent].as_ref().map_or(0, |step| step.depth + 1);
        let depth = parents.iter().map(depth_of).max().unwrap_or(0);
        steps.push(Some(Step { depth, parents, backward }));
        Shadow { node: Some(steps.len() - 1), ..out }
    }

    /// Runs backward from `root`; gives what is found for leaves. The graph is empty then.
    pub(super) fn gradients(&self, root: Shadow) -> Asked {
        let mut steps = self.steps.take();
        let mut asked = Asked { arena: self.arena.clone(), by_node: HashMap::new() };
        let Some(first) = root.node else { return asked };
        let ones = asked.tensor(root.len);
        asked.register(root.node, ones);
        drop(root);
        let mut by_depth: Vec<Vec<(usize, Backward)>> = Vec::new();
        let mut open = vec![first];
        while let Some(node) = open.pop() {
            let Some(Step { depth, parents, backward }) = steps[node].take() else { continue };
            open.extend(parents);
            by_depth.resize_with(by_depth.len().max(depth + 1), Vec::new);
            by_depth[depth].extend(backward.map(|backward| (node, backward)));
        }
        for (node, backward) in by_depth.into_iter().rev().flatten() {
            if let Some(value) = asked.by_node.remove(&node) {
                backward(&mut asked, value);
            }
        }
        asked
    }
}

/// A tensor of its own.
pub(super) fn new(arena: &Arena, len: usize) -> Shadow {
    Shadow { data: arena.take(len * NUMBER), len, order: Order::Whole, node: None }
}

/// A product, or zeros.
fn product(arena: &Arena, len: usize) -> Shadow {
    Shadow { data: arena.take_aligned(len * NUMBER), len, order: Order::Whole, node: None }
}

/// An operation on each pair of numbers.
pub(super) fn binary(arena: &Arena, left: Shadow, right: &Shadow) -> Shadow {
    if left.takes(right) { left } else { new(arena, left.len) }
}

/// An operation on each number.
pub(super) fn unary(arena: &Arena, x: Shadow) -> Shadow {
    if x.is_free() { x } else { new(arena, x.len) }
}

/// The numbers side by side.
pub(super) fn in_order(arena: &Arena, x: Shadow) -> Shadow {
    if x.order == Order::Strided { new(arena, x.len) } else { x }
}
