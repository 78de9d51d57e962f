// Byte-pair encoding learnt from text (arXiv 1508.07909), on the bytes of words as GPT-2 cuts them.
#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <queue>

#include "whence/nn/data/subword/impl.h"
#include "whence/nn/data/text.h"
#include "whence/tensor/error.h"

namespace whence {
namespace subword {
namespace {

struct Word {
  std::vector<int32_t> ids;
  int64_t count;
};

struct Candidate {
  int64_t count;
  uint64_t pair;
  bool operator<(const Candidate& other) const {  // the queue gives the greatest first
    return count != other.count ? count < other.count : pair > other.pair;
  }
};

class Learner {
 public:
  explicit Learner(std::vector<Word> words) : words_(std::move(words)), seen_(words_.size()) {
    for (size_t w = 0; w < words_.size(); ++w)
      for (size_t i = 1; i < words_[w].ids.size(); ++i) change(words_[w].ids[i - 1], words_[w].ids[i], int32_t(w), +1);
    queue_changed();
  }

  /// The most frequent pair, of equal ones the lowest; count 0 when there is none.
  Candidate best() {
    while (!queue_.empty()) {
      Candidate top = queue_.top();
      queue_.pop();
      int64_t now = counts_[top.pair];
      if (now == top.count) return top;
      if (now > 0) queue_.push({now, top.pair});
    }
    return {0, 0};
  }

  void merge(uint64_t pair, int32_t to) {
    const int32_t left = int32_t(pair >> 32), right = int32_t(uint32_t(pair));
    ++merge_;
    for (int32_t w : std::exchange(places_[pair], {}))
      if (std::exchange(seen_[size_t(w)], merge_) != merge_) replace(w, left, right, to);
    counts_[pair] = 0;
    queue_changed();
  }

 private:
  void change(int32_t left, int32_t right, int32_t w, int sign) {
    uint64_t pair = pair_key(left, right);
    counts_[pair] += sign * words_[size_t(w)].count;
    if (sign < 0) return;
    places_[pair].push_back(w);
    changed_.push_back(pair);
  }

  void replace(int32_t w, int32_t left, int32_t right, int32_t to) {
    std::vector<int32_t>& ids = words_[size_t(w)].ids;
    size_t out = 0;  // ids[0, out) is done
    for (size_t i = 0; i < ids.size();) {
      if (i + 1 == ids.size() || ids[i] != left || ids[i + 1] != right) {
        ids[out++] = ids[i++];
        continue;
      }
      if (out) {
        change(ids[out - 1], left, w, -1);
        change(ids[out - 1], to, w, +1);
      }
      if (i + 2 < ids.size()) {
        change(right, ids[i + 2], w, -1);
        change(to, ids[i + 2], w, +1);
      }
      ids[out++] = to;
      i += 2;
    }
    ids.resize(out);
  }

  void queue_changed() {
    std::sort(changed_.begin(), changed_.end());
    changed_.erase(std::unique(changed_.begin(), changed_.end()), changed_.end());
    for (uint64_t pair : changed_)
      if (counts_[pair] > 0) queue_.push({counts_[pair], pair});
    changed_.clear();
  }

  std::vector<Word> words_;
  std::vector<int64_t> seen_;  // per word: the merge that last looked at it
  int64_t merge_ = 0;
  std::unordered_map<uint64_t, int64_t> counts_;
  std::unordered_map<uint64_t, std::vector<int32_t>> places_;  // words that a pair was seen in
  std::vector<uint64_t> changed_;
  std::priority_queue<Candidate> queue_;
};

// The words of the text in the order of their bytes, as ids of their bytes.
std::vector<Word> words_of(std::string_view text, const Vocabulary& vocabulary) {
  std::map<std::string, int64_t> counts;
  for (const AlignedText& word : byte_level(false, true)(AlignedText::of(text))) ++counts[word.bytes];
  std::vector<Word> out;
  for (const auto& [word, count] : counts) {
    Word& to = out.emplace_back(Word{{}, count});
    for (size_t at = 0, begin = 0; at < word.size(); begin = at) {
      unicode::next(word, at);
      to.ids.push_back(vocabulary.id(std::string_view(word).substr(begin, at - begin)));
    }
  }
  return out;
}

nlohmann::ordered_json file_of(const Vocabulary& vocabulary, const nlohmann::ordered_json& merges, size_t specials) {
  using Json = nlohmann::ordered_json;
  auto byte_level = [](bool trim) {
    return Json{{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", trim}, {"use_regex", true}};
  };
  Json added = Json::array(), tokens = Json::object();
  for (int32_t id = 0; id <= vocabulary.largest_id(); ++id) {
    tokens[*vocabulary.token(id)] = id;
    if (size_t(id) < specials)
      added.push_back({{"id", id},
                       {"content", *vocabulary.token(id)},
                       {"single_word", false},
                       {"lstrip", false},
                       {"rstrip", false},
                       {"normalized", false},
                       {"special", true}});
  }
  return {{"version", "1.0"},
          {"truncation", nullptr},
          {"padding", nullptr},
          {"added_tokens", added},
          {"normalizer", nullptr},
          {"pre_tokenizer", byte_level(true)},
          {"post_processor", byte_level(false)},
          {"decoder", byte_level(true)},
          {"model",
           {{"type", "BPE"},
            {"dropout", nullptr},
            {"unk_token", nullptr},
            {"continuing_subword_prefix", nullptr},
            {"end_of_word_suffix", nullptr},
            {"fuse_unk", false},
            {"byte_fallback", false},
            {"ignore_merges", false},
            {"vocab", tokens},
            {"merges", merges}}}};
}

}  // namespace
}  // namespace subword

using namespace subword;

SubwordTokenizer SubwordTokenizer::learn_bpe(std::string_view text, const LearnBpe& options) {
  const int64_t least = int64_t(options.specials.size()) + 256;
  if (options.vocabulary < least || options.vocabulary > INT32_MAX)
    throw ValueError("learn_bpe: a vocabulary of " + std::to_string(options.vocabulary) + " tokens; the " +
                     std::to_string(options.specials.size()) + " specials and the 256 bytes are " +
                     std::to_string(least));
  Vocabulary vocabulary;
  for (const std::string& special : options.specials)
    if (special.empty() || !vocabulary.add(special, int32_t(vocabulary.size())))
      throw ValueError("learn_bpe: the special token '" + special + "' is empty or there twice");
  std::vector<char32_t> alphabet(byte_alphabet(), byte_alphabet() + 256);
  std::sort(alphabet.begin(), alphabet.end());
  for (char32_t c : alphabet)
    if (!vocabulary.add(encode_utf8(c), int32_t(vocabulary.size())))
      throw ValueError("learn_bpe: the special token '" + encode_utf8(c) + "' is one of the bytes' names");

  Learner learner(words_of(text, vocabulary));
  auto merges = nlohmann::ordered_json::array();
  while (int64_t(vocabulary.size()) < options.vocabulary) {
    Candidate best = learner.best();
    if (best.count < std::max<int64_t>(options.min_frequency, 1)) break;
    const std::string &left = *vocabulary.token(int32_t(best.pair >> 32)),
                      &right = *vocabulary.token(int32_t(uint32_t(best.pair)));
    merges.push_back({left, right});
    std::string both = left + right;
    int32_t id = vocabulary.id(both);  // other merges may have made the same token
    if (id < 0) {
      id = int32_t(vocabulary.size());
      vocabulary.add(both, id);
    }
    learner.merge(best.pair, id);
  }
  return parse(file_of(vocabulary, merges, options.specials.size()).dump(), "learnt");
}

}  // namespace whence
