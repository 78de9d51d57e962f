#include "whence/autograd/plan/emit.h"

#include <algorithm>

namespace whence::planner {

static std::vector<TensorType> types_in(const Lowered& low, const INode& n) {
  std::vector<TensorType> types;
  for (Id v : low.ir.in(n)) types.push_back(low.ir.types[v]);
  return types;
}
static std::span<const TensorType> types_out(const Lowered& low, const INode& n) {
  return {low.ir.types.data() + n.out, n.n_out};
}

static const Kernel* native(const Program& p, const Lowered& low, const INode& n) {
  return p.backend->native(*n.op, types_in(low, n), types_out(low, n));
}

// ---- storage -----------------------------------------------------------------------------------------------------

Storage::Storage(Program& p, const Lowered& low, const Schedule& order) : p_(p), low_(low), order_(order) {
  const size_t n = low.ir.producer.size();
  first_.assign(n, kNone);
  last_.assign(n, 0);
  after_others_.assign(n, 0);
  block_.assign(n, kNone);
  base_.assign(n, kNone);
  stored_.assign(n, 0);
  donated_.assign(n, 0);
  read_.assign(n, 0);
  work_.assign(order.units.size(), kNone);
  if (order.lanes > 1) {
    clock_ = lane_clocks(order, nullptr);
    lane_steps_.resize(size_t(order.lanes));
    for (Id at = 0; at < order.units.size(); ++at) lane_steps_[order.lane_of(at)].push_back(at);
  }
  find_lifetimes();
  for (Id at = 0; at < order.units.size(); ++at) {
    const Unit& u = order.units[at];
    for (Id m = u.begin; m < u.end; ++m) {
      const INode& node = low.ir.nodes[order.members[m]];
      if (!u.tile && !p.options.keep) skip_unread(node);
      for (Id v = node.out; v < node.out + node.n_out; ++v) {
        if (!stored_[v] || base_[v] != kNone || low.inside[v].pack != kNone) continue;
        block_[v] = Id(p.blocks.size());
        bool keep = p.options.keep && node.where != kNone && p.wheres[node.where].pass == 0;
        if (keep) last_[v] = Id(order.units.size());  // past the end: neither reused nor overwritten
        p.blocks.push_back(
            {.bytes = bytes(v), .first = first_[v], .last = std::max(at, last_[v]), .lane = lane_of_block(v, at)});
        p.block_where.push_back(node.where);
        p.stats.unplanned_bytes += bytes(v);
      }
    }
    if (p.options.reuse_memory) {
      if (u.tile) reuse_in_group(u, at);
      else reuse_in_kernel(low.ir.nodes[order.members[u.begin]], at);
    }
    const INode& head = low.ir.nodes[order.members[u.begin]];
    const Kernel* kernel = u.tile ? nullptr : native(p, low, head);
    if (kernel && kernel->workspace) {
      work_[at] = Id(p.blocks.size());
      p.blocks.push_back({.bytes = kernel->workspace(types_in(low, head), types_out(low, head), *head.attrs),
                          .first = at,
                          .last = at,
                          .lane = order.lane_of(at)});
      p.block_where.push_back(head.where);
    }
  }
  // Blocks that were given away are dropped: their root points at the donor's.
  std::vector<Id> number(p.blocks.size(), kNone);
  Id kept = 0;
  for (Id b = 0; b < p.blocks.size(); ++b) {
    if (p.blocks[b].first == kNone) continue;
    number[b] = kept;
    p.blocks[kept] = p.blocks[b];
    p.block_where[kept++] = p.block_where[b];
  }
  p.blocks.resize(kept);
  p.block_where.resize(kept);
  for (Id& b : block_)
    if (b != kNone) b = number[b];
  for (Id& b : work_)
    if (b != kNone) b = number[b];
  place();
}

// Results that no step reads take no memory, where the kernel can do without.
void Storage::skip_unread(const INode& n) {
  const Kernel* kernel = native(p_, low_, n);
  for (Id v = n.out; kernel && kernel->skips_unread && v < n.out + n.n_out; ++v)
    if (!read_[v]) stored_[v] = 0;
}

// A packed value is written by steps of any lane: with several lanes it has a place of its own.
uint8_t Storage::lane_of_block(Id root, Id at) const {
  if (order_.lanes == 1) return 0;
  return is_pack(low_.ir.nodes[low_.ir.producer[root]].op) ? uint8_t(order_.lanes) : order_.lane_of(at);
}

// Each lane allocates in its own part of the arena, so that reuse never orders one lane after another.
void Storage::place() {
  const size_t lanes = size_t(order_.lanes) + 1;  // and what belongs to none
  std::vector<std::vector<Block>> parts(lanes);
  std::vector<size_t> begin(lanes), next(lanes);
  for (const Block& b : p_.blocks) parts[b.lane].push_back(b);
  p_.arena_bytes = 0;
  for (size_t l = 0; l < lanes; ++l) {
    begin[l] = p_.arena_bytes;
    p_.arena_bytes += place_blocks(parts[l], p_.options.reuse_memory && (order_.lanes == 1 || l + 1 < lanes));
  }
  for (Block& b : p_.blocks) b.offset = parts[b.lane][next[b.lane]++].offset + begin[b.lane];
}

bool Storage::dies(Id root, Id at) const {
  return last_[root] == at && after_others_[root] <= at && block_[root] != kNone &&
         p_.blocks[block_[root]].lane == order_.lane_of(at);
}

// Marks a reader. One on another lane is at work until the first step of the writer's lane that is known to come later.
void Storage::read(Id root, Id reader) {
  const size_t other = order_.lane_of(reader);
  if (order_.lanes == 1 || first_[root] == kNone || order_.lane_of(first_[root]) == other) {
    last_[root] = std::max(last_[root], reader);
    return;
  }
  const std::vector<Id>& steps = lane_steps_[order_.lane_of(first_[root])];
  auto after = std::partition_point(steps.begin(), steps.end(), [&](Id at) { return clock_[at][other] <= reader; });
  const Id free_from = after == steps.end() ? Id(order_.units.size()) + 1 : *after;
  after_others_[root] = std::max(after_others_[root], free_from);
  last_[root] = std::max(last_[root], free_from - 1);
}

void Storage::find_lifetimes() {
  const Ir& ir = low_.ir;
  for (const INode& n : ir.nodes)
    if (n.leaf != kNone) base_[n.out] = 1 + n.leaf;
  for (size_t k = 0; k < low_.output_root.size(); ++k) {
    base_[low_.output_root[k]] = p_.outputs[k].base;
    stored_[low_.output_root[k]] = read_[low_.output_root[k]] = 1;
  }
  std::vector<Id> unit(ir.nodes.size(), kNone);
  for (Id at = 0; at < order_.units.size(); ++at)
    for (Id m = order_.units[at].begin; m < order_.units[at].end; ++m) unit[order_.members[m]] = at;
  for (Id at = 0; at < order_.units.size(); ++at) {
    const Unit& u = order_.units[at];
    for (Id m = u.begin; m < u.end; ++m) {
      const INode& n = ir.nodes[order_.members[m]];
      for (Id v = n.out; v < n.out + n.n_out; ++v) {
        first_[v] = at;
        if (!u.tile) stored_[v] = 1;
      }
      for (Id v : ir.in(n)) {
        Id root = low_.place[v].root;
        read_[root] = 1;
        read(root, at);
        if (unit[ir.producer[root]] != at) stored_[root] = 1;
      }
    }
  }
  // What is computed inside a packed value needs its place from the first part on.
  for (Id v = 0; v < low_.inside.size(); ++v) {
    const Id pack = low_.inside[v].pack;
    if (pack == kNone) continue;
    stored_[v] = 1;
    first_[pack] = std::min(first_[pack], first_[v]);
    last_[pack] = std::max(last_[pack], last_[v]);
  }
}

void Storage::give(Id donor, Id root) {
  p_.blocks[block_[root]].first = kNone;  // dropped at the end
  block_[root] = block_[donor];
  p_.blocks[block_[root]].last = std::max(first_[root], last_[root]);
  donated_[donor] = 1;
  ++p_.stats.in_place;
}

// A result may take the place of an operand that dies here, if element by element the operand is read no later than
// the result is written.
void Storage::reuse_in_group(const Unit& u, Id at) {
  const Ir& ir = low_.ir;
  struct Donor {
    Id root, last_read;
    bool flat;
  };
  std::vector<Donor> donors;
  for (Id m = u.begin; m < u.end; ++m) {
    const INode& n = ir.nodes[order_.members[m]];
    for (Id v : ir.in(n)) {
      Id root = low_.place[v].root;
      if (first_[root] == at || !dies(root, at) || donated_[root]) continue;
      bool flat = low_.whole(v) && ir.types[v].shape.numel() == ir.types[n.out].shape.numel();
      auto have = std::find_if(donors.begin(), donors.end(), [&](const Donor& d) { return d.root == root; });
      if (have == donors.end()) donors.push_back({root, m, flat});
      else {
        have->last_read = m;
        have->flat &= flat;
      }
    }
  }
  for (Id m = u.begin; m < u.end && !donors.empty(); ++m) {
    Id v = ir.nodes[order_.members[m]].out;
    if (block_[v] == kNone) continue;
    auto fits = [&](const Donor& d) {
      return d.flat && d.last_read <= m && bytes(d.root) == bytes(v) && ir.types[d.root].dtype == ir.types[v].dtype;
    };
    auto d = std::find_if(donors.begin(), donors.end(), fits);
    if (d == donors.end()) continue;
    give(d->root, v);
    donors.erase(d);
  }
}

void Storage::reuse_in_kernel(const INode& n, Id at) {
  const Ir& ir = low_.ir;
  const Kernel* kernel = native(p_, low_, n);
  if (!kernel || kernel->in_place < 0 || block_[n.out] == kNone) return;
  const Id over = Id(kernel->in_place);
  if (over >= n.n_in) return;
  Id v = ir.in(n)[over], root = low_.place[v].root;
  if (!low_.whole(v) || !dies(root, at) || donated_[root] || !(ir.types[root].dtype == ir.types[n.out].dtype) ||
      !(ir.types[v].shape == ir.types[n.out].shape))
    return;
  for (Id k = 0; k < n.n_in; ++k)
    if (k != over && low_.place[ir.in(n)[k]].root == root) return;
  give(root, n.out);
}

Ref Storage::at(Id value) const {
  Id root = low_.place[value].root;
  int64_t offset = low_.offset(value);
  if (base_[root] != kNone) return {base_[root], offset};
  if (const auto& in = low_.inside[root]; in.pack != kNone) {
    Ref pack = at(in.pack);
    return {pack.base, pack.offset + in.offset + offset};
  }
  if (!stored_[root]) return {p_.nowhere, 0};
  return {0, int64_t(p_.blocks[block_[root]].offset) + offset};
}

int64_t Storage::workspace(Id at) const { return work_[at] == kNone ? -1 : int64_t(p_.blocks[work_[at]].offset); }

// ---- steps -------------------------------------------------------------------------------------------------------

void emit(Program& p, const Lowered& low, const Schedule& order) {
  for (const INode& n : low.ir.nodes) {
    if (n.leaf == kNone) continue;
    if (p.leaves[n.leaf].kind == Leaf::input) p.inputs.push_back(n.leaf);
    if (p.leaves[n.leaf].kind == Leaf::scalar) p.scalars.push_back(n.leaf);
  }

  Storage storage(p, low, order);
  for (Id at = 0; at < order.units.size(); ++at) {
    const Unit& u = order.units[at];
    const INode& n = low.ir.nodes[order.members[u.begin]];
    const bool lone_copy = is_copy(n.op) && u.end - u.begin == 1;  // has a kernel of its own
    if (u.tile && !lone_copy) {
      p.steps.push_back({.group = Id(p.groups.size()),
                         .members = Id(p.members.size()),
                         .n_members = u.end - u.begin,
                         .where = n.where});
      for (Id m = u.begin; m < u.end; ++m) p.members.push_back(low.ir.nodes[order.members[m]].where);
      p.groups.push_back(make_group(low, storage, {order.members.data() + u.begin, u.end - u.begin}));
      p.stats.fused_groups += u.end - u.begin > 1;
      p.stats.fused_nodes += u.end - u.begin > 1 ? u.end - u.begin : 0;
      continue;
    }
    if (is_pack(n.op)) {  // its parts are where they belong
      p.steps.push_back({.op = n.op, .attrs = n.attrs, .where = n.where});
      continue;
    }
    Step s{.op = n.op,
           .attrs = n.attrs,
           .kernel = native(p, low, n),
           .views = Id(p.views.size()),
           .n_in = n.n_in,
           .n_out = n.n_out,
           .workspace = storage.workspace(at),
           .where = n.where};
    auto add = [&](Id v) {
      p.views.push_back(low.view(v));
      p.view_refs.push_back(storage.at(v));
    };
    for (Id v : low.ir.in(n)) add(v);
    for (Id k = 0; k < n.n_out; ++k) add(n.out + k);
    const std::span<const View> seen{p.views.data() + s.views, size_t(n.n_in + n.n_out)};
    if (!n.op->traits.effect && empty(seen.first(n.n_in), seen.last(n.n_out))) s.kernel = nullptr;
    p.steps.push_back(s);
  }
  // For extensions: what of the key can be read back.
  for (Id v = 0; v < p.key_value.size(); ++v) {
    if (p.key_value[v] == kNone) continue;
    Id value = low.value[p.key_value[v]], root = low.place[value].root;
    if (low.ir.nodes[low.ir.producer[root]].leaf != kNone || !storage.in_memory(root) || storage.donated(root))
      continue;
    p.kept.push_back({v, storage.at(value), storage.block(root), low.view(value).strides});
  }
  p.lanes = order.lanes;
  if (order.lanes > 1) {
    std::vector<std::vector<Id>> waits;
    lane_clocks(order, &waits);
    for (Id at = 0; at < p.steps.size(); ++at) {
      Step& s = p.steps[at];
      s.lane = order.lane_of(at);
      s.waits = Id(p.waits.size());
      s.n_waits = Id(waits[at].size());
      p.waits.insert(p.waits.end(), waits[at].begin(), waits[at].end());
    }
  }
  p.stats.steps = p.steps.size();
  p.stats.views = low.views;
  p.stats.arena_bytes = p.arena_bytes;
}

}  // namespace whence::planner
