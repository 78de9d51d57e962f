// Text for language models: whole files (read_text in nn/io/file.h), lines, characters.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "whence/nn/io/file.h"

namespace whence {

/// The lines of a file without their endings (LF or CRLF), gunzipped when needed. \throws IoError.
std::vector<std::string> read_lines(const std::string& path);

/// The pieces between `separator`s; "a,,b" has three, "" has one.
std::vector<std::string> split_text(std::string_view text, char separator);
/// Without blanks, tabs and line breaks at both ends.
std::string_view trimmed(std::string_view text);

/// The code points of UTF-8 text. \throws ValueError naming the byte offset where it is malformed.
std::vector<char32_t> decode_utf8(std::string_view text);
/// UTF-8 of one code point.
std::string encode_utf8(char32_t c);

}  // namespace whence
