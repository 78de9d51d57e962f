// What happens after the model: special tokens and types around the texts, and the way back to text.
#pragma once
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "whence/nn/data/subword.h"

namespace whence::subword {

/// Works on the encodings of one or two texts; `special`: special tokens are wanted.
using PostProcessor = std::function<void(std::vector<Encoding>& texts, bool special)>;

/// Offsets without the blanks at both ends of a token, except one that `add_prefix_space` put before the text.
PostProcessor trim_offsets(bool add_prefix_space);

/// A place in a template: one of the texts (0, 1), or tokens that are added (-1).
struct TemplatePiece {
  int text = -1;
  int32_t type_id = 0;
  std::vector<int32_t> ids = {};
  std::vector<std::string> tokens = {};
};
PostProcessor template_processor(std::vector<TemplatePiece> single, std::vector<TemplatePiece> pair);

/// All in one.
Encoding joined(std::vector<Encoding> texts);

/// One step on the way from tokens to text.
using Decoder = std::function<void(std::vector<std::string>& tokens)>;

Decoder byte_level_decoder();
Decoder wordpiece_decoder(std::string prefix, bool cleanup);
Decoder metaspace_decoder(char32_t replacement, bool drop_first);
Decoder replace_decoder(std::string pattern, std::string by);
Decoder byte_fallback_decoder();
Decoder fuse_decoder();
/// Up to `start` characters `content` at the beginning of each token and `stop` at its end go.
Decoder strip_decoder(char32_t content, int64_t start, int64_t stop);

}  // namespace whence::subword
