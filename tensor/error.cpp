#include "whence/tensor/error.h"

#include <algorithm>
#include <string_view>

namespace whence {

thread_local constinit SourceLine users_line;

std::string SourceLine::str() const {
  if (!file) return "";
  std::string_view name = file;
  if (size_t slash = name.rfind('/'); slash != name.npos) name.remove_prefix(slash + 1);
  return " at " + std::string(name) + ":" + std::to_string(line);
}

static std::string placed(const std::string& text) {
  if (!users_line.file || text.find("\n  recorded at ") != text.npos) return text;
  const size_t hint = std::min(text.find("\n  hint: "), text.size());
  return text.substr(0, hint) + "\n  recorded" + users_line.str() + text.substr(hint);
}

Error::Error(const std::string& text) : std::runtime_error(placed(text)) {}

}  // namespace whence
