// HuggingFace's config.json: what the from_json of each configuration reads.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "whence/nn/rotary.h"

namespace whence::models {

class ConfigJson {
 public:
  /// \throws ValueError for a text that is no JSON object
  explicit ConfigJson(std::string_view text);
  /// Sets `to` to the value of a key, and leaves it alone where the key is absent or null. T: int64_t, double, bool,
  /// std::string, or a vector of one of these. \throws ValueError for a value of another kind
  template <class T> void read(const char* key, T& to) const;
  template <class T> T value(const char* key, T otherwise) const {
    read(key, otherwise);
    return otherwise;
  }
  bool has(const char* key) const;          ///< there, and not null
  bool is_number(const char* key) const;    ///< so
  ConfigJson below(const char* key) const;  ///< the object of a key; an empty one where there is none

 private:
  struct Object;
  ConfigJson(std::shared_ptr<const Object> object) : object_(std::move(object)) {}
  std::shared_ptr<const Object> object_;
};

/// "rope_parameters", or "rope_theta" and "rope_scaling" of older files. \throws ValueError for a kind of scaling that
/// is not known
nn::RotaryOptions rotary_from_json(const ConfigJson& json);

}  // namespace whence::models
