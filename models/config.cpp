#include "whence/models/config.h"

#include <limits>
#include <nlohmann/json.hpp>
#include <type_traits>

#include "whence/tensor/error.h"

namespace whence::models {

struct ConfigJson::Object {
  nlohmann::json json;
};

namespace {

// Python writes infinity as a bare word, which is no JSON: it becomes the string "Infinity".
std::string with_quoted_infinity(std::string_view text) {
  std::string out;
  bool quoted = false;
  for (size_t i = 0; i < text.size(); ++i) {
    if (quoted && text[i] == '\\' && i + 1 < text.size()) {
      out += text[i++];
      out += text[i];
      continue;
    }
    if (text[i] == '"') quoted = !quoted;
    const bool negative = text[i] == '-';
    if (!quoted && text.substr(i + negative).starts_with("Infinity")) {
      out += negative ? "\"-Infinity\"" : "\"Infinity\"";
      i += negative ? 8 : 7;
    } else {
      out += text[i];
    }
  }
  return out;
}

// A number, or the word for infinity.
double number(const nlohmann::json& value) {
  if (value == "Infinity" || value == "inf") return std::numeric_limits<double>::infinity();
  if (value == "-Infinity" || value == "-inf") return -std::numeric_limits<double>::infinity();
  return value.get<double>();
}

}  // namespace

ConfigJson::ConfigJson(std::string_view text)
    : object_(std::make_shared<Object>(Object{nlohmann::json::parse(with_quoted_infinity(text), nullptr, false)})) {
  if (!object_->json.is_object()) throw ValueError("the configuration is no JSON object");
}

bool ConfigJson::has(const char* key) const { return object_->json.contains(key) && !object_->json.at(key).is_null(); }
bool ConfigJson::is_number(const char* key) const { return has(key) && object_->json.at(key).is_number(); }

ConfigJson ConfigJson::below(const char* key) const {
  auto object = std::make_shared<Object>(Object{nlohmann::json::object()});
  if (has(key) && object_->json.at(key).is_object()) object->json = object_->json.at(key);
  return ConfigJson(std::move(object));
}

template <class T> void ConfigJson::read(const char* key, T& to) const {
  if (!has(key)) return;
  const nlohmann::json& value = object_->json.at(key);
  try {
    if constexpr (std::is_same_v<T, double>) {
      to = number(value);
    } else if constexpr (std::is_same_v<T, std::vector<double>>) {
      to.clear();
      for (const auto& v : value) to.push_back(number(v));
    } else {
      to = value.get<T>();
    }
  } catch (const nlohmann::json::exception&) {
    throw ValueError("configuration: \"" + std::string(key) + "\" is " + value.dump());
  }
}
template void ConfigJson::read(const char*, int64_t&) const;
template void ConfigJson::read(const char*, double&) const;
template void ConfigJson::read(const char*, bool&) const;
template void ConfigJson::read(const char*, std::string&) const;
template void ConfigJson::read(const char*, std::vector<int64_t>&) const;
template void ConfigJson::read(const char*, std::vector<double>&) const;
template void ConfigJson::read(const char*, std::vector<std::string>&) const;

nn::RotaryOptions rotary_from_json(const ConfigJson& json) {
  nn::RotaryOptions o;
  const bool parameters = json.has("rope_parameters");
  ConfigJson rope = json.below(parameters ? "rope_parameters" : "rope_scaling");
  (parameters ? rope : json).read("rope_theta", o.theta);
  const std::string type = rope.value("rope_type", rope.value("type", std::string("default")));
  if (type == "default") return o;
  if (type != "llama3") throw ValueError("configuration: rotary positions of type '" + type + "' are not known");
  rope.read("factor", o.factor);
  rope.read("low_freq_factor", o.low_freq_factor);
  rope.read("high_freq_factor", o.high_freq_factor);
  rope.read("original_max_position_embeddings", o.original_positions);
  return o;
}

}  // namespace whence::models
