// What a SubwordTokenizer is made of.
#pragma once
#include <unordered_set>

#include "whence/nn/data/subword.h"
#include "whence/nn/data/subword/finish.h"
#include "whence/nn/data/subword/model.h"
#include "whence/nn/data/subword/text.h"

namespace whence {

namespace subword {

/// A token that is looked for in the text before the model sees it.
struct AddedToken {
  std::string content;
  int32_t id = 0;
  bool single_word = false, lstrip = false, rstrip = false;
  bool normalized = false;  ///< looked for after normalisation, in its own normalised form
};

/// Finds the leftmost of them, of those that begin there the longest, again and again.
class AddedTokens {
 public:
  void add(AddedToken token);
  bool empty() const { return tokens_.empty(); }
  /// `text` in order: pieces with the id of an added token, or -1.
  std::vector<std::pair<AlignedText, int32_t>> split(AlignedText text) const;

 private:
  const AddedToken* at(std::string_view text, size_t begin) const;
  std::vector<AddedToken> tokens_;  // longest first
  bool begins_[256] = {};           // first bytes of them
};

}  // namespace subword

struct SubwordTokenizer::Impl {
  std::string name;  ///< of the file, for messages
  std::string json;  ///< what save() writes; empty: there is no such form
  std::shared_ptr<subword::Vocabulary> vocabulary = std::make_shared<subword::Vocabulary>();
  std::unique_ptr<subword::Model> model;
  subword::AddedTokens plain, normalized;            ///< looked for before and after normalisation
  std::unordered_set<int32_t> special;               ///< left out by decode
  std::unordered_map<int32_t, std::string> spelled;  ///< added tokens that decode in another form than their own
  std::vector<subword::Normalizer> normalizers;
  std::vector<subword::PreTokenizer> pre_tokenizers;
  std::vector<subword::PostProcessor> post_processors;
  std::vector<subword::Decoder> decoders;
  bool join_with_blanks = false;  ///< no decoder at all

  Encoding encode(std::string_view text, int32_t sequence) const;
  Encoding finish(std::vector<Encoding> texts, std::span<const std::string_view> originals, bool special) const;
};

}  // namespace whence
