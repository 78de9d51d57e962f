// Translates a fused group into a tile program: operands, instructions, registers by linear scan, the size of a tile.
#include <algorithm>
#include <numeric>

#include "autograd/plan/emit.h"
#include "tensor/convert.h"

namespace whence::planner {

namespace {

constexpr int64_t kTileBytes = 32768;  // what a tile may touch: the first-level cache, with room to spare
constexpr int64_t kMinTile = 128;
constexpr int64_t kGrainCost = 65536;  // element operations below which a second thread does not pay

class Translator {
 public:
  Translator(const Program& p, const Lowered& low, const Storage& storage, std::span<const Id> members)
      : p_(p), low_(low), ir_(low.ir), storage_(storage), members_(members) {}

  TileProgram run() {
    t_.numel = ir_.types[ir_.nodes[members_[0]].out].shape.numel();
    for (Id m : members_) translate(ir_.nodes[m]);
    choose_tile();
    assign_registers();
    t_.slot_bytes = uint32_t((t_.tile * widest_ + 63) / 64 * 64);
    t_.grain_tiles = std::max<int64_t>(1, kGrainCost / ((1 + cost_) * t_.tile));
    return std::move(t_);
  }

 private:
  uint32_t operand(TileOperand o, bool written = false) {
    t_.operands.push_back(o);
    written_.push_back(written);
    return uint32_t(t_.operands.size() - 1);
  }
  TileOperand at(TileOperand::Kind kind, Id value) const {
    Ref r = storage_.at(value);
    return {.kind = kind, .size = uint8_t(size_of(ir_.types[value].dtype)), .base = r.base, .offset = r.offset};
  }

  // The operand through which `reader` sees `value`. A gather into `dest` (a copy) needs no tile of its own.
  uint32_t source(Id value, const INode& reader, uint32_t dest = kNone) {
    for (size_t m = made_.size(); m-- > 0 && low_.whole(value);)
      if (made_[m].first == low_.place[value].root) return made_[m].second;
    const Shape& shape = ir_.types[reader.out].shape;
    View v = low_.view(value);
    TileMap map = collapse(shape, broadcast_strides(v.shape, v.strides, shape));
    bool one_run = map.rank == 1;
    bool steps = reader.n_in > 1;
    if (one_run && (t_.numel == 1 || map.stride[0] == 1)) return shared(at(TileOperand::memory, value));
    if (one_run && map.stride[0] == 0 && steps) return shared(at(TileOperand::scalar, value));
    TileOperand o = at(TileOperand::gather, value);
    o.steps = steps;
    if (dest == kNone)
      for (uint32_t k = 0; k < t_.operands.size(); ++k) {
        TileOperand& have = t_.operands[k];
        if (have.kind != TileOperand::gather || have.base != o.base || have.offset != o.offset || have.size != o.size)
          continue;
        const TileMap& m = t_.maps[have.map];
        if (m.rank != map.rank || m.extent != map.extent || m.stride != map.stride) continue;
        have.steps &= steps;
        return k;
      }
    o.map = uint32_t(t_.maps.size());
    t_.maps.push_back(map);
    uint32_t k = operand(o);
    TileInstr g;
    g.kind = TileInstr::gather;
    g.a = g.b = g.c = k;
    g.dst = dest == kNone ? k : dest;
    t_.code.push_back(g);
    return k;
  }
  uint32_t shared(TileOperand o) {
    for (uint32_t k = 0; k < t_.operands.size(); ++k) {
      const TileOperand& have = t_.operands[k];
      if (have.kind == o.kind && have.base == o.base && have.offset == o.offset && have.size == o.size && !written_[k])
        return k;
    }
    return operand(o);
  }
  uint32_t target(Id value) {
    TileOperand o{.size = uint8_t(size_of(ir_.types[value].dtype))};
    if (storage_.in_memory(value)) o = at(TileOperand::memory, value);
    return operand(o, true);
  }

  void translate(const INode& n) {
    const LoopProvider& loops = loop_provider();
    auto in = ir_.in(n);
    DType from = ir_.types[in[0]].dtype, to = ir_.types[n.out].dtype;
    TileInstr i;
    int64_t row = 0;
    if (is_copy(n.op)) {
      i.dst = target(n.out);
      i.a = i.b = i.c = source(in[0], n, i.dst);
      i.kind = TileInstr::copy;
      if (t_.operands[i.a].kind != TileOperand::gather) t_.code.push_back(i);  // else source() has gathered it there
    } else {
      uint32_t k[3] = {};
      for (size_t j = 0; j < in.size(); ++j) k[j] = source(in[j], n);
      if (in.size() == 1) {
        i.kind = TileInstr::unary;
        i.unary_loop = n.op->loop == "cast" ? convert_run(from, to) : loops.unary(n.op->loop, from);
        i.a = i.b = i.c = k[0];
        cost_ += 3;
      } else if (in.size() == 2) {
        i.kind = TileInstr::binary;
        row = row_length(n, ir_);
        i.binary_loop = row ? loops.rows(n.op->loop, from) : loops.binary(n.op->loop, from);
        i.a = i.c = k[0];
        i.b = k[1];
        if (row) rows_ = std::lcm(rows_, row);
        cost_ += row ? 4 : 1;
      } else {
        i.kind = TileInstr::where;
        i.where_loop = loops.where(int(size_of(to)));
        i.c = k[0];
        i.a = k[1];
        i.b = k[2];
        cost_ += 1;
      }
      i.params = uint32_t(t_.params.size());
      for (const char* name : n.op->loop_params) t_.params.push_back(n.attrs->real(name));
      if (row) t_.params.push_back(double(row));
      i.dst = target(n.out);
      t_.code.push_back(i);
    }
    made_.emplace_back(n.out, i.dst);
  }

  // Rows of a gathered operand should begin where a tile begins: then the operand is read in place, or gathered once.
  void choose_tile() {
    int64_t regs = 0, bytes = 0, row = 0;
    for (const TileOperand& o : t_.operands) {
      widest_ = std::max<int64_t>(widest_, o.size);
      if (o.kind == TileOperand::memory) bytes += o.size;
      if (o.kind == TileOperand::gather || o.kind == TileOperand::reg) ++regs;
    }
    for (const TileMap& m : t_.maps)
      if (m.rank > 1 && !row) row = m.extent[size_t(m.rank) - 1];
    bytes += std::min<int64_t>(regs, 6) * widest_;  // a guess: registers are shared
    int64_t tile = std::clamp(kTileBytes / std::max<int64_t>(bytes, 1) / 16 * 16, kMinTile, kMaxTile);
    if (rows_ > 1) tile = std::max(rows_, tile / rows_ * rows_);
    else if (row > 1 && row <= tile) tile = tile / row * row;
    else if (row > tile)
      for (int64_t parts = (row + tile - 1) / tile, stop = parts * 4; parts <= stop; ++parts)
        if (row % parts == 0) {
          tile = row / parts;
          break;
        }
    t_.tile = std::max<int64_t>(1, std::min(tile, t_.numel));
    for (TileMap& m : t_.maps) {
      if (m.rank < 2 || m.stride[0] != 0) continue;
      int64_t period = 1;
      for (int a = 1; a < m.rank; ++a) period *= m.extent[size_t(a)];
      m.periodic = t_.tile % period == 0;
    }
  }

  void assign_registers() {
    const uint32_t n = uint32_t(t_.operands.size());
    std::vector<uint32_t> last(n, 0), free;
    std::vector<char> open(n);
    for (uint32_t i = 0; i < t_.code.size(); ++i)
      for (uint32_t k : {t_.code[i].a, t_.code[i].b, t_.code[i].c, t_.code[i].dst}) last[k] = i;
    auto in_register = [&](uint32_t k) {
      return t_.operands[k].kind == TileOperand::reg || t_.operands[k].kind == TileOperand::gather;
    };
    auto fixed = [&](uint32_t k) {
      return t_.operands[k].kind == TileOperand::gather && t_.maps[t_.operands[k].map].periodic;
    };
    for (uint32_t k = 0; k < n; ++k)
      if (fixed(k)) t_.operands[k].slot = t_.slots++;
    auto release = [&](uint32_t i, uint32_t k) {
      if (open[k] && last[k] == i) {
        open[k] = 0;
        free.push_back(t_.operands[k].slot);
      }
    };
    for (uint32_t i = 0; i < t_.code.size(); ++i) {
      const TileInstr& c = t_.code[i];
      // The result may take the register of an operand that ends here, if their elements have one size.
      for (uint32_t k : {c.a, c.b, c.c})
        if (k != c.dst && t_.operands[k].size == t_.operands[c.dst].size) release(i, k);
      if (in_register(c.dst) && !fixed(c.dst) && !open[c.dst]) {
        if (free.empty()) free.push_back(t_.slots++);
        t_.operands[c.dst].slot = free.back();
        free.pop_back();
        open[c.dst] = 1;
      }
      for (uint32_t k : {c.a, c.b, c.c, c.dst}) release(i, k);
    }
  }

  const Program& p_;
  const Lowered& low_;
  const Ir& ir_;
  const Storage& storage_;
  std::span<const Id> members_;
  TileProgram t_;
  std::vector<std::pair<Id, uint32_t>> made_;  // values of the group -> operand
  std::vector<char> written_;                  // by operand
  int64_t widest_ = 1, cost_ = 0, rows_ = 1;   // rows_: a tile is a multiple
};

}  // namespace

TileProgram make_tile(const Program& p, const Lowered& low, const Storage& storage, std::span<const Id> members) {
  return Translator(p, low, storage, members).run();
}

}  // namespace whence::planner
