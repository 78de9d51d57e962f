// Tokenisers whose tokens are parts of words: byte-pair encoding and WordPiece, learnt here or read from the files of
// HuggingFace and llama2.c. Characters and k-mers: nn/data/tokenizer.h.
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace whence {

/// What a text becomes. All lists are as long as `ids`.
struct Encoding {
  using Range = std::pair<int64_t, int64_t>;  ///< [begin, end)
  std::vector<int32_t> ids;
  std::vector<std::string> tokens;
  std::vector<int32_t> type_ids;             ///< of a pair's second text usually 1, as the file says
  std::vector<int32_t> sequence_ids;         ///< 0: of the text, 1: of the second one, -1: added
  std::vector<uint8_t> special_tokens_mask;  ///< 1: added; a special token written in the text has 0
  std::vector<Range> offsets;                ///< code points of the text that the token covers; added ones: (0, 0)
  std::vector<Range> byte_offsets;           ///< the same in bytes
  size_t size() const { return ids.size(); }
};

struct LearnBpe {
  int64_t vocabulary = 4096;                           ///< at most; at least specials + 256
  std::vector<std::string> specials{"<|endoftext|>"};  ///< get the first ids
  int64_t min_frequency = 2;                           ///< a pair that is rarer is not merged
};

/// \code
///   auto tokenizer = SubwordTokenizer::read("gpt2/tokenizer.json");
///   Encoding e = tokenizer.encode("It was the best of times");
///   std::string text = tokenizer.decode(e.ids);
/// \endcode
/// A copy shares everything; encoding and decoding from several threads is fine.
class SubwordTokenizer {
 public:
  /// HuggingFace's tokenizer.json: byte-level BPE (GPT-2, RoBERTa), BPE with byte fallback (Llama, with Metaspace or
  /// with the older normaliser), WordPiece (BERT). Ids, tokens, offsets and decoded text are those of the package
  /// tokenizers 0.23. `truncation` and `padding` are not applied. \throws IoError naming file and field for what is
  /// absent, of another type, or none of these kinds
  static SubwordTokenizer read(const std::string& path);
  /// The same from memory; `name` stands for the file in messages.
  static SubwordTokenizer parse(std::string_view json, const std::string& name = "memory");
  /// The tokenizer.bin of llama2.c: for each token a score and its bytes. Its merges go by score. \throws IoError
  static SubwordTokenizer read_llama2c(const std::string& path);
  static SubwordTokenizer parse_llama2c(std::string_view bytes, const std::string& name = "memory");
  /// Byte-level BPE as GPT-2's, learnt from `text`: the most frequent pair first, of equal ones that of the lowest ids.
  /// The same text gives the same tokenizer, on every machine. \throws ValueError for text that is no UTF-8, or options
  /// that make no sense.
  static SubwordTokenizer learn_bpe(std::string_view text, const LearnBpe& options = {});

  /// \throws ValueError naming the byte where the text is no UTF-8
  Encoding encode(std::string_view text, bool add_special_tokens = true) const;
  /// Two texts in one sequence.
  Encoding encode_pair(std::string_view first, std::string_view second, bool add_special_tokens = true) const;
  /// Special tokens, also those that were written in the text, are left out or kept. Bytes that are no UTF-8 become
  /// U+FFFD. \throws ValueError for an id that no token has
  std::string decode(std::span<const int32_t> ids, bool skip_special_tokens = true) const;

  /// One more than the largest id: rows that an embedding needs.
  int64_t vocabulary() const;
  /// \throws ValueError where there is none
  int32_t id(std::string_view token) const;
  const std::string& token(int32_t id) const;
  bool has(std::string_view token) const;

  /// As tokenizer.json, in one atomic step; what was read is written as it was.
  /// \throws ValueError for one of read_llama2c, whose merges by score the format does not know; IoError
  void save(const std::string& path) const;
  /// What save() writes.
  const std::string& json() const;

  struct Impl;
  explicit SubwordTokenizer(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}

 private:
  std::shared_ptr<const Impl> impl_;
};

}  // namespace whence
