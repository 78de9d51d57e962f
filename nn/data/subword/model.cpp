#include "whence/nn/data/subword/model.h"

#include <algorithm>
#include <cstdio>
#include <queue>

#include "whence/nn/data/subword/unicode.h"

namespace whence::subword {

bool Vocabulary::add(std::string token, int32_t id) {
  if (tokens_.count(id)) return false;
  auto [at, is_new] = ids_.emplace(std::move(token), id);
  if (!is_new) return false;
  tokens_.emplace(id, &at->first);
  largest_id_ = std::max(largest_id_, id);
  return true;
}

int32_t Vocabulary::id(std::string_view token) const {
  auto at = ids_.find(token);
  return at == ids_.end() ? -1 : at->second;
}

const std::string* Vocabulary::token(int32_t id) const {
  auto at = tokens_.find(id);
  return at == tokens_.end() ? nullptr : at->second;
}

namespace {

class Bpe : public Model {
 public:
  Bpe(std::shared_ptr<const Vocabulary> vocabulary, Merges merges, BpeOptions options)
      : vocabulary_(std::move(vocabulary)), merges_(std::move(merges)), options_(options) {
    for (int b = 0; b < 256; ++b) {
      char name[8];
      std::snprintf(name, sizeof name, "<0x%02X>", b);
      byte_ids_[b] = options.byte_fallback ? vocabulary_->id(name) : -1;
    }
  }

  std::vector<ModelToken> tokens(std::string_view piece) const override {
    if (options_.ignore_merges)
      if (int32_t id = vocabulary_->id(piece); id >= 0) return {{id, 0, uint32_t(piece.size())}};
    std::vector<Symbol> symbols = characters(piece);
    merge(symbols);
    std::vector<ModelToken> out;
    uint32_t begin = 0;
    for (const Symbol& s : symbols)
      if (s.length) {
        out.push_back({s.id, begin, begin + s.length});
        begin += s.length;
      }
    return out;
  }

 private:
  struct Symbol {
    int32_t id;
    uint32_t length;         // bytes; 0: merged into the one on its left
    int32_t previous, next;  // -1: none
  };
  struct Candidate {
    int32_t rank, at, id;
    bool operator<(const Candidate& other) const {  // the queue gives the greatest first
      return rank != other.rank ? rank > other.rank : at > other.at;
    }
  };

  // Lengths add up, so where characters are dropped, tokens move to the left: so they do in the reference.
  std::vector<Symbol> characters(std::string_view piece) const {
    std::vector<Symbol> out;
    auto add = [&](int32_t id, size_t length) {
      int32_t at = int32_t(out.size());
      if (at) out.back().next = at;
      out.push_back({id, uint32_t(length), at - 1, -1});
    };
    size_t unknown = 0;  // bytes of the unknown token that is open
    auto close = [&] {
      if (unknown) add(options_.unknown, unknown);
      unknown = 0;
    };
    for (size_t at = 0, begin = 0; at < piece.size(); begin = at) {
      unicode::next(piece, at);
      std::string_view c = piece.substr(begin, at - begin);
      auto byte_id = [&](char b) { return byte_ids_[uint8_t(b)]; };
      if (int32_t id = vocabulary_->id(c); id >= 0) {
        close();
        add(id, c.size());
      } else if (std::all_of(c.begin(), c.end(), [&](char b) { return byte_id(b) >= 0; })) {
        for (char b : c) add(byte_id(b), 1);
      } else if (options_.unknown >= 0) {
        if (!options_.fuse_unknown) close();
        unknown += c.size();
      }
    }
    close();
    return out;
  }

  void merge(std::vector<Symbol>& symbols) const {
    std::priority_queue<Candidate> queue;
    auto consider = [&](int32_t left, int32_t right) {
      if (left < 0 || right < 0) return;
      auto found = merges_.find(pair_key(symbols[size_t(left)].id, symbols[size_t(right)].id));
      if (found != merges_.end()) queue.push({found->second.rank, left, found->second.id});
    };
    for (size_t i = 1; i < symbols.size(); ++i) consider(int32_t(i) - 1, int32_t(i));
    while (!queue.empty()) {
      Candidate best = queue.top();
      queue.pop();
      Symbol& left = symbols[size_t(best.at)];
      if (left.length == 0 || left.next < 0) continue;
      Symbol& right = symbols[size_t(left.next)];
      auto now = merges_.find(pair_key(left.id, right.id));
      if (now == merges_.end() || now->second.id != best.id) continue;  // one of the two has changed meanwhile
      left.id = best.id;
      left.length += right.length;
      left.next = right.next;
      right.length = 0;
      if (left.next >= 0) symbols[size_t(left.next)].previous = best.at;
      consider(left.previous, best.at);
      consider(best.at, left.next);
    }
  }

  std::shared_ptr<const Vocabulary> vocabulary_;
  Merges merges_;
  BpeOptions options_;
  int32_t byte_ids_[256];
};

class WordPiece : public Model {
 public:
  WordPiece(std::shared_ptr<const Vocabulary> vocabulary, WordPieceOptions options)
      : vocabulary_(std::move(vocabulary)), options_(std::move(options)) {}

  std::vector<ModelToken> tokens(std::string_view word) const override {
    std::vector<size_t> ends;  // of its characters
    for (size_t at = 0; at < word.size(); ends.push_back(at)) unicode::next(word, at);
    const std::vector<ModelToken> unknown{{options_.unknown, 0, uint32_t(word.size())}};
    if (ends.size() > options_.longest_word) return unknown;
    std::vector<ModelToken> out;
    std::string piece;
    for (size_t begin = 0, first = 0; begin < word.size();) {
      size_t last = ends.size();
      int32_t id = -1;
      for (; last > first && id < 0; --last) {
        piece = begin ? options_.prefix : "";
        piece += word.substr(begin, ends[last - 1] - begin);
        id = vocabulary_->id(piece);
      }
      if (id < 0) return unknown;
      first = last + 1;
      out.push_back({id, uint32_t(begin), uint32_t(ends[last])});
      begin = ends[last];
    }
    return out;
  }

 private:
  std::shared_ptr<const Vocabulary> vocabulary_;
  WordPieceOptions options_;
};

}  // namespace

std::unique_ptr<Model> bpe_model(std::shared_ptr<const Vocabulary> vocabulary, Merges merges, BpeOptions options) {
  return std::make_unique<Bpe>(std::move(vocabulary), std::move(merges), options);
}

std::unique_ptr<Model> wordpiece_model(std::shared_ptr<const Vocabulary> vocabulary, WordPieceOptions options) {
  return std::make_unique<WordPiece>(std::move(vocabulary), std::move(options));
}

}  // namespace whence::subword
