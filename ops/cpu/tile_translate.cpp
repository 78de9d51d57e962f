// From a fused group to a tile program: loops, gathers, registers by linear scan, the size of a tile.
#include <algorithm>
#include <numeric>

#include "whence/ops/cpu/elementwise.h"
#include "whence/ops/cpu/tile.h"

namespace whence::cpu {

namespace {

constexpr int64_t kTileBytes = 32768;  // what a tile may touch: the first-level cache, with room to spare
constexpr int64_t kMinTile = 128;
constexpr int64_t kGrainCost = 65536;  // element operations below which a second thread does not pay

constexpr uint32_t kUnmade = 0xffffffffu;

// How instructions see an operand of the group: in place, or gathered.
struct Made {
  uint32_t plain = kUnmade, gathered = kUnmade;
};

class Translator {
 public:
  explicit Translator(const FusedGroup& group) : group_(group), made_(group.operands.size()) {}

  TileProgram run() {
    t_.numel = group_.numel;
    for (const planner::GroupInstr& i : group_.code) i.op ? translate(i) : translate_copy(i);
    choose_tile();
    assign_registers();
    t_.slot_bytes = uint32_t((t_.tile * widest_ + 63) / 64 * 64);
    t_.grain_tiles = std::max<int64_t>(1, kGrainCost / ((1 + cost_) * t_.tile));
    return std::move(t_);
  }

 private:
  uint32_t add(TileOperand::Kind kind, const planner::GroupOperand& o) {
    t_.operands.push_back(
        {.kind = kind, .size = uint8_t(whence::size_of(o.dtype)), .base = o.at.base, .offset = o.at.offset});
    return uint32_t(t_.operands.size() - 1);
  }

  uint32_t gather(uint32_t k, bool steps, uint32_t dest) {
    const planner::GroupOperand& o = group_.operands[k];
    uint32_t made = add(TileOperand::gather, o);
    t_.operands[made].steps = steps;
    t_.operands[made].map = uint32_t(t_.maps.size());
    t_.maps.push_back({o.map});
    TileInstr g;
    g.kind = TileInstr::gather;
    g.a = g.b = g.c = made;
    g.dst = dest == kUnmade ? made : dest;
    t_.code.push_back(g);
    return made;
  }

  uint32_t source(uint32_t k, bool steps) {
    const planner::GroupOperand& o = group_.operands[k];
    Made& m = made_[k];
    if (o.local || o.map.run() || (o.map.scalar() && steps)) {
      if (m.plain == kUnmade)
        m.plain = add(o.local ? TileOperand::reg : o.map.run() ? TileOperand::memory : TileOperand::scalar, o);
      return m.plain;
    }
    if (m.gathered == kUnmade) m.gathered = gather(k, steps, kUnmade);
    t_.operands[m.gathered].steps &= steps;
    return m.gathered;
  }
  uint32_t target(uint32_t k) {
    const planner::GroupOperand& o = group_.operands[k];
    return made_[k].plain = add(o.local ? TileOperand::reg : TileOperand::memory, o);
  }

  void translate_copy(const planner::GroupInstr& i) {
    const planner::GroupOperand& o = group_.operands[i.in[0]];
    uint32_t dst = target(i.out);
    if (!o.local && !o.map.run()) {
      gather(i.in[0], false, dst);  // straight into its place
      return;
    }
    TileInstr c;
    c.kind = TileInstr::copy;
    c.a = c.b = c.c = source(i.in[0], true);
    c.dst = dst;
    t_.code.push_back(c);
  }

  void translate(const planner::GroupInstr& i) {
    const DType from = group_.operands[i.in[0]].dtype, to = group_.operands[i.out].dtype;
    uint32_t k[3] = {};
    for (uint32_t j = 0; j < i.n_in; ++j) k[j] = source(i.in[j], i.n_in > 1);
    const ScalarRow& row = i.op->scalar;
    const ScalarLoop loop = find_loop(row, from, to);
    TileInstr t;
    if (loop.unary) {
      t.kind = TileInstr::unary;
      t.unary_loop = loop.unary;
      t.a = t.b = t.c = k[0];
      cost_ += 3;
    } else if (loop.binary) {
      t.kind = TileInstr::binary;
      t.binary_loop = loop.binary;
      t.a = t.c = k[0];
      t.b = k[1];
      if (i.row) rows_ = std::lcm(rows_, i.row);
      cost_ += i.row ? 4 : 1;
    } else {
      t.kind = TileInstr::where;
      t.where_loop = loop.where;
      t.c = k[0];
      t.a = k[1];
      t.b = k[2];
      cost_ += 1;
    }
    t.params = uint32_t(t_.params.size());
    for (int p = 0; p < row.n_params(); ++p) t_.params.push_back(i.attrs->real(row.params[p]));
    if (i.row) t_.params.push_back(double(i.row));
    t.dst = target(i.out);
    t_.code.push_back(t);
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
      m.periodic = period > 0 && t_.tile % period == 0;
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

  const FusedGroup& group_;
  TileProgram t_;
  std::vector<Made> made_;                    // by operand of the group
  int64_t widest_ = 1, cost_ = 0, rows_ = 1;  // rows_: a tile is a multiple
};

}  // namespace

TileProgram make_tile(const FusedGroup& group) { return Translator(group).run(); }

}  // namespace whence::cpu
