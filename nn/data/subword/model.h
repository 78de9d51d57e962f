// From pieces to tokens: a vocabulary, and the two models over it.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace whence::subword {

/// Token strings and ids, both ways. Ids need not be without gaps.
class Vocabulary {
 public:
  Vocabulary() = default;
  Vocabulary(const Vocabulary&) = delete;
  Vocabulary& operator=(const Vocabulary&) = delete;
  /// False when the token or the id is there already.
  bool add(std::string token, int32_t id);
  int32_t id(std::string_view token) const;           ///< -1: none
  const std::string* token(int32_t id) const;         ///< nullptr: none
  int32_t largest_id() const { return largest_id_; }  ///< -1 when empty
  size_t size() const { return ids_.size(); }

 private:
  struct Hash : std::hash<std::string_view> {
    using is_transparent = void;
  };
  std::unordered_map<std::string, int32_t, Hash, std::equal_to<>> ids_;
  std::unordered_map<int32_t, const std::string*> tokens_;  // keys of ids_, which stay where they are
  int32_t largest_id_ = -1;
};

struct ModelToken {
  int32_t id;
  uint32_t begin, end;  ///< bytes of the piece
};

class Model {
 public:
  virtual ~Model() = default;
  virtual std::vector<ModelToken> tokens(std::string_view piece) const = 0;
};

/// A merge: its rank (lower ones first, equal ones from left to right) and what comes of it.
struct Merge {
  int32_t rank, id;
};
/// By pair of ids: `uint64_t(left) << 32 | right`.
using Merges = std::unordered_map<uint64_t, Merge>;
inline uint64_t pair_key(int32_t left, int32_t right) { return uint64_t(uint32_t(left)) << 32 | uint32_t(right); }

struct BpeOptions {
  int32_t unknown = -1;        ///< id for characters that are not in the vocabulary; -1: they are dropped
  bool fuse_unknown = false;   ///< neighbours become one unknown token
  bool byte_fallback = false;  ///< first try <0x00> to <0xFF> for the bytes of such a character
  bool ignore_merges = false;  ///< a piece that is in the vocabulary is that token
};

/// Byte-pair encoding (arXiv 1508.07909): starts from single characters and makes the merge of the lowest rank until
/// none is left. O(n log n) for a piece of n characters.
std::unique_ptr<Model> bpe_model(std::shared_ptr<const Vocabulary> vocabulary, Merges merges, BpeOptions options);

struct WordPieceOptions {
  int32_t unknown = -1;       ///< id for a word with a piece that is not in the vocabulary; has to be there
  std::string prefix = "##";  ///< of pieces that do not begin a word
  size_t longest_word = 100;  ///< characters; longer words are unknown
};

/// The longest piece that is in the vocabulary, again and again, as in BERT (arXiv 1810.04805).
std::unique_ptr<Model> wordpiece_model(std::shared_ptr<const Vocabulary> vocabulary, WordPieceOptions options);

}  // namespace whence::subword
