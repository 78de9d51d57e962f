#include "whence/ops/cpu/tile.h"

#include <algorithm>
#include <cstring>
#include <new>

#include "whence/tensor/parallel.h"
#include "whence/tensor/run.h"

namespace whence::cpu {

namespace {

// Scratch of one thread, kept between runs.
struct Scratch {
  std::byte* data = nullptr;
  size_t bytes = 0;
  std::byte* at_least(size_t need) {
    if (need > bytes) {
      std::free(data);
      bytes = (need + 4095) / 4096 * 4096;
      data = static_cast<std::byte*>(std::aligned_alloc(64, bytes));
      if (!data) {
        bytes = 0;
        throw std::bad_alloc();
      }
    }
    return data;
  }
  ~Scratch() { std::free(data); }
};
thread_local Scratch scratch;

// Position i0 of the iteration as an index per axis, and its offset in elements.
int64_t locate(const IndexMap& m, int64_t i0, int64_t* index) {
  int64_t at = 0;
  for (int a = m.rank - 1; a > 0; --a) {
    index[a] = i0 % m.extent[size_t(a)];
    i0 /= m.extent[size_t(a)];
    at += index[a] * m.stride[size_t(a)];
  }
  index[0] = i0;
  return at + i0 * m.stride[0];
}

template <class T> void gather_as(const IndexMap& m, const std::byte* source, std::byte* dest, int64_t i0, int64_t n) {
  int64_t index[Shape::kMaxRank];
  const T* p = reinterpret_cast<const T*>(source) + locate(m, i0, index);
  T* q = reinterpret_cast<T*>(dest);
  const int last = m.rank - 1;
  const int64_t inner = m.extent[size_t(last)], s = m.stride[size_t(last)];
  for (;;) {
    int64_t run = std::min(inner - index[last], n);
    copy_run(p, s, q, run);
    if ((n -= run) == 0) return;
    q += run;
    p -= index[last] * s;
    index[last] = 0;
    for (int a = last - 1; a >= 0; --a) {  // odometer over the outer axes
      p += m.stride[size_t(a)];
      if (++index[a] < m.extent[size_t(a)]) break;
      p -= m.stride[size_t(a)] * m.extent[size_t(a)];
      index[a] = 0;
    }
  }
}

void gather(const IndexMap& m, size_t size, const std::byte* source, std::byte* dest, int64_t i0, int64_t n) {
  with_bits(size, [&](auto u) { gather_as<decltype(u)>(m, source, dest, i0, n); });
}

struct Cursor {
  std::byte* p;
  int step;  // 0: one element for all
};

// A gathered tile that lies in one run needs no copy: point at it.
bool point_at_run(const TileOperand& o, const IndexMap& m, std::byte* source, int64_t i0, int64_t n, Cursor& c) {
  int64_t index[Shape::kMaxRank];
  int64_t at = locate(m, i0, index);
  size_t last = size_t(m.rank) - 1;
  if (index[last] + n > m.extent[last] || m.stride[last] > 1 || m.stride[last] < 0) return false;
  if (m.stride[last] == 0 && !o.steps) return false;
  c.p = source + at * int64_t(o.size);
  c.step = int(m.stride[last]);
  return true;
}

}  // namespace

void TileProgram::run_tiles(std::byte* const* bases, int64_t begin, int64_t end) const {
  const size_t n_ops = operands.size(), table = (n_ops * sizeof(Cursor) + 63) / 64 * 64;
  std::byte* memory = scratch.at_least(table + size_t(slots) * slot_bytes);
  Cursor* cur = reinterpret_cast<Cursor*>(memory);
  std::byte* regs = memory + table;
  for (size_t k = 0; k < n_ops; ++k) {
    const TileOperand& o = operands[k];
    switch (o.kind) {
      case TileOperand::memory: cur[k] = {bases[o.base] + o.offset + begin * tile * o.size, 1}; break;
      case TileOperand::scalar: cur[k] = {bases[o.base] + o.offset, 0}; break;
      default: cur[k] = {regs + size_t(o.slot) * slot_bytes, 1};
    }
  }
  for (int64_t t = begin; t < end; ++t) {
    const int64_t i0 = t * tile, n = std::min(tile, numel - i0);
    for (const TileInstr& i : code) {
      const Cursor &a = cur[i.a], &b = cur[i.b], &d = cur[i.dst];
      switch (i.kind) {
        case TileInstr::unary: i.unary_loop(a.p, d.p, n, params.data() + i.params); break;
        case TileInstr::binary: i.binary_loop(a.p, a.step, b.p, b.step, d.p, n, params.data() + i.params); break;
        case TileInstr::where: {
          const Cursor& c = cur[i.c];
          i.where_loop(reinterpret_cast<const uint8_t*>(c.p), c.step, a.p, a.step, b.p, b.step, d.p, n);
          break;
        }
        case TileInstr::copy: std::memcpy(d.p, a.p, size_t(n) * operands[i.a].size); break;
        case TileInstr::gather: {
          const TileOperand& o = operands[i.a];
          const TileMap& m = maps[o.map];
          if (m.periodic && i.dst == i.a && t > begin) break;
          std::byte* source = bases[o.base] + o.offset;
          if (i.dst == i.a) {
            if (point_at_run(o, m, source, i0, n, cur[i.a])) break;
            cur[i.a] = {regs + size_t(o.slot) * slot_bytes, 1};
          }
          gather(m, o.size, source, cur[i.dst].p, i0, n);
          break;
        }
      }
    }
    if (t + 1 < end)
      for (size_t k = 0; k < n_ops; ++k)
        if (operands[k].kind == TileOperand::memory) cur[k].p += tile * operands[k].size;
  }
}

void TileProgram::run(std::byte* const* bases) const {
  if (numel == 0) return;
  const int64_t tiles = (numel + tile - 1) / tile;
  if (tiles <= grain_tiles) return run_tiles(bases, 0, tiles);
  parallel_for(tiles, grain_tiles, [&](int64_t begin, int64_t end) { run_tiles(bases, begin, end); });
}

}  // namespace whence::cpu
