// What has been recorded, by the signature of its inputs: function, TrainStep and EvalStep keep a bounded number.
#pragma once
#include <algorithm>
#include <cstddef>
#include <list>
#include <memory>
#include <utility>

namespace whence {

/// Entries with the latest used first; the last goes when there are more than `most`. An entry that somebody holds
/// outlives its place.
template <class Entry> class SignatureCache {
 public:
  explicit SignatureCache(size_t most) : most_(most) {}
  /// The entry that fits, or what make() gives; what make() throws leaves the cache as it was.
  template <class Fits, class Make> std::shared_ptr<Entry> get(Fits&& fits, Make&& make) {
    auto found = std::find_if(entries_.begin(), entries_.end(), [&](auto& e) { return fits(*e); });
    if (found != entries_.end()) {
      entries_.splice(entries_.begin(), entries_, found);
      return entries_.front();
    }
    std::shared_ptr<Entry> made = std::forward<Make>(make)();
    entries_.push_front(made);
    if (entries_.size() > most_) entries_.pop_back();
    return made;
  }
  size_t size() const { return entries_.size(); }
  void clear() { entries_.clear(); }

 private:
  size_t most_;
  std::list<std::shared_ptr<Entry>> entries_;
};

}  // namespace whence
