// Offsets for blocks with known lifetimes: best fit, in order of time.
#include <algorithm>
#include <map>
#include <set>

#include <fmt/format.h>

#include "whence/autograd/plan/passes.h"

namespace whence::planner {

namespace {

// Free ranges by place and by size; neighbours are joined.
class FreeList {
 public:
  size_t top = 0;

  size_t take(size_t bytes) {
    auto fit = by_size_.lower_bound({bytes, 0});
    if (fit == by_size_.end()) return grow(bytes);
    auto [size, offset] = *fit;
    remove(offset, size);
    if (size > bytes) insert(offset + bytes, size - bytes);
    return offset;
  }

  void give(size_t offset, size_t bytes) {
    auto next = by_place_.lower_bound(offset);
    if (next != by_place_.end() && next->first == offset + bytes) {
      bytes += next->second;
      remove(next->first, next->second);
    }
    auto before = by_place_.lower_bound(offset);
    if (before != by_place_.begin() && (--before)->first + before->second == offset) {
      auto [at, size] = *before;
      remove(at, size);
      offset = at;
      bytes += size;
    }
    insert(offset, bytes);
  }

 private:
  // The arena gets longer; a free range at its end is used up first.
  size_t grow(size_t bytes) {
    size_t offset = top;
    if (!by_place_.empty()) {
      auto [at, size] = *by_place_.rbegin();
      if (at + size == top) {
        offset = at;
        remove(at, size);
      }
    }
    if (bytes > (size_t(1) << 62) - offset)
      throw OutOfMemory("the values of the plan have more bytes than an address space");
    top = offset + bytes;
    return offset;
  }
  void insert(size_t offset, size_t size) {
    by_place_.emplace(offset, size);
    by_size_.emplace(size, offset);
  }
  void remove(size_t offset, size_t size) {
    by_place_.erase(offset);
    by_size_.erase({size, offset});
  }
  std::map<size_t, size_t> by_place_;
  std::set<std::pair<size_t, size_t>> by_size_;
};

size_t padded(size_t bytes) { return (std::max<size_t>(bytes, 1) + kAlign - 1) / kAlign * kAlign; }

}  // namespace

size_t place_blocks(std::vector<Block>& blocks, bool reuse) {
  FreeList free;
  std::vector<Id> starts(blocks.size()), ends;
  for (Id i = 0; i < blocks.size(); ++i) starts[i] = i;
  ends = starts;
  // At one step the large ones choose first.
  std::stable_sort(starts.begin(), starts.end(), [&](Id a, Id b) {
    return blocks[a].first != blocks[b].first ? blocks[a].first < blocks[b].first : blocks[a].bytes > blocks[b].bytes;
  });
  std::stable_sort(ends.begin(), ends.end(), [&](Id a, Id b) { return blocks[a].last < blocks[b].last; });
  size_t end = 0;
  for (Id i : starts) {
    Block& b = blocks[i];
    for (; reuse && end < ends.size() && blocks[ends[end]].last < b.first; ++end)
      free.give(blocks[ends[end]].offset, padded(blocks[ends[end]].bytes));
    b.offset = free.take(padded(b.bytes));
  }
  return free.top;
}

std::string find_overlap(std::span<const Block> blocks) {
  // Blocks that are live now, by place: a newcomer may only collide with its neighbours.
  std::vector<Id> starts(blocks.size());
  for (Id i = 0; i < blocks.size(); ++i) starts[i] = i;
  std::stable_sort(starts.begin(), starts.end(), [&](Id a, Id b) { return blocks[a].first < blocks[b].first; });
  std::map<size_t, Id> live;
  std::multimap<Id, Id> ends;
  for (Id i : starts) {
    const Block& b = blocks[i];
    while (!ends.empty() && ends.begin()->first < b.first) {
      live.erase(blocks[ends.begin()->second].offset);
      ends.erase(ends.begin());
    }
    auto next = live.lower_bound(b.offset);
    auto clash = [&](Id j) {
      return fmt::format("blocks {} and {} are live at step {} and overlap at {}", j, i, b.first, b.offset);
    };
    if (next != live.end() && next->first < b.offset + std::max<size_t>(b.bytes, 1)) return clash(next->second);
    if (next != live.begin()) {
      auto before = std::prev(next);
      if (before->first + std::max<size_t>(blocks[before->second].bytes, 1) > b.offset) return clash(before->second);
    }
    live.emplace(b.offset, i);
    ends.emplace(b.last, i);
  }
  return "";
}

}  // namespace whence::planner
