#include "whence/nn/metrics.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>

#include "whence/nn/io/atomic_file.h"
#include "whence/nn/io/file.h"
#include "whence/tensor/error.h"

namespace whence {
namespace {

using Json = nlohmann::json;

Json to_json(const MetricValue& v) {
  return std::visit([](const auto& x) { return Json(x); }, v);  // NaN and infinities dump as null
}

bool parse_line(std::string_view text, Metrics* out) {
  Json line = Json::parse(text.begin(), text.end(), nullptr, false);
  if (!line.is_object()) return false;
  for (auto& [key, v] : line.items()) {
    if (v.is_null()) (*out)[key] = std::numeric_limits<double>::quiet_NaN();
    else if (v.is_boolean()) (*out)[key] = v.get<bool>();
    else if (v.is_number_integer() && !(v.is_number_unsigned() && v.get<uint64_t>() > uint64_t(INT64_MAX)))
      (*out)[key] = v.get<int64_t>();
    else if (v.is_number()) (*out)[key] = v.get<double>();
    else if (v.is_string()) (*out)[key] = v.get<std::string>();
    else (*out)[key] = v.dump();  // lists and objects come back as their text
  }
  return true;
}

bool number_in(const Metrics& m, const std::string& key, double* out) {
  auto it = m.find(key);
  if (it == m.end()) return false;
  if (auto* d = std::get_if<double>(&it->second)) *out = *d;
  else if (auto* i = std::get_if<int64_t>(&it->second)) *out = double(*i);
  else return false;
  return true;
}

// Each whole line with its text, and what is left after the last line break.
template <class F> std::string_view each_line(const std::string& text, F&& f) {
  size_t at = 0;
  for (int64_t n = 1;; ++n) {
    size_t end = text.find('\n', at);
    if (end == std::string::npos) return std::string_view(text).substr(at);
    f(n, std::string_view(text).substr(at, end - at));
    at = end + 1;
  }
}

}  // namespace

MetricsWriter::MetricsWriter(std::string path) : path_(std::move(path)) {
  auto fail = [&](const char* doing) {
    std::string why = std::strerror(errno);
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
    throw IoError(path_ + ": cannot " + doing + ": " + why);
  };
  struct stat st;
  if (::stat(path_.c_str(), &st) == 0 && (S_ISFIFO(st.st_mode) || S_ISSOCK(st.st_mode)))
    throw IoError(path_ + ": a pipe keeps no lines");
  fd_ = ::open(path_.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (fd_ < 0) fail("open");
  // A rest without a line break is a line whose write was cut off: finish it where it is whole, remove it
  // otherwise.
  off_t size = ::lseek(fd_, 0, SEEK_END), begin = size;
  std::string tail;
  while (begin > 0 && tail.find('\n') == std::string::npos) {
    char block[4096];
    off_t from = std::max<off_t>(0, begin - off_t(sizeof block));
    ssize_t n = ::pread(fd_, block, size_t(begin - from), from);
    if (n != begin - from) fail("read");
    tail.insert(0, block, size_t(n));
    begin = from;
  }
  size_t last = tail.rfind('\n');
  std::string rest = last == std::string::npos ? tail : tail.substr(last + 1);
  Metrics ignored;
  if (!rest.empty() && parse_line(rest, &ignored)) {
    if (::write(fd_, "\n", 1) != 1) fail("write");
  } else if (!rest.empty() && ::ftruncate(fd_, size - off_t(rest.size())) != 0) {
    fail("remove the unfinished last line of");
  }
}

MetricsWriter::~MetricsWriter() {
  if (fd_ >= 0) ::close(fd_);
}

void MetricsWriter::write(std::initializer_list<std::pair<std::string_view, MetricValue>> values) {
  std::vector<std::pair<std::string_view, const MetricValue*>> list;
  for (const auto& [k, v] : values) list.emplace_back(k, &v);
  append(list);
}

void MetricsWriter::write(const Metrics& values) {
  std::vector<std::pair<std::string_view, const MetricValue*>> list;
  for (const auto& [k, v] : values) list.emplace_back(k, &v);
  append(list);
}

void MetricsWriter::append(const std::vector<std::pair<std::string_view, const MetricValue*>>& values) {
  std::string line = "{";
  constexpr auto replace = Json::error_handler_t::replace;  // a name that is no UTF-8 must not stop a training run
  for (const auto& [k, v] : values)
    line += (line.size() > 1 ? "," : "") + Json(std::string(k)).dump(-1, ' ', false, replace) + ":" +
            to_json(*v).dump(-1, ' ', false, replace);
  line += "}\n";
  ssize_t n;
  do n = ::write(fd_, line.data(), line.size());
  while (n < 0 && errno == EINTR);
  if (n == ssize_t(line.size())) return;
  std::string why = n < 0 ? std::strerror(errno) : "no room";
  if (n > 0) {  // take the half line back, so that the next one does not grow from it
    off_t size = ::lseek(fd_, 0, SEEK_END);
    if (::ftruncate(fd_, size - n) != 0) why += ", and the half-written line stays";
  }
  throw IoError(path_ + ": cannot append: " + why);
}

std::vector<Metrics> read_metrics(const std::string& path) {
  std::string text = read_text(path);
  std::vector<Metrics> out;
  each_line(text, [&](int64_t n, std::string_view line) {
    Metrics m;
    if (!parse_line(line, &m))
      throw IoError(path + ":" + std::to_string(n) + ": no JSON object: '" + std::string(line.substr(0, 60)) + "'");
    out.push_back(std::move(m));
  });
  return out;
}

void rewind_metrics(const std::string& path, std::string_view key, double last) {
  if (::access(path.c_str(), F_OK) != 0) return;
  std::string text = read_text(path), kept, name(key);
  each_line(text, [&](int64_t, std::string_view line) {
    Metrics m;
    double x = 0;
    if (parse_line(line, &m) && number_in(m, name, &x) && x > last) return;
    kept.append(line).append("\n");
  });
  if (kept.size() != text.size()) write_file_atomically(path, kept);
}

std::pair<std::vector<double>, std::vector<double>> metric_series(const std::vector<Metrics>& lines,
                                                                  const std::string& x, const std::string& y) {
  std::pair<std::vector<double>, std::vector<double>> out;
  for (const auto& m : lines) {
    double a, b;
    if (!number_in(m, x, &a) || !number_in(m, y, &b)) continue;
    out.first.push_back(a);
    out.second.push_back(b);
  }
  return out;
}

}  // namespace whence
