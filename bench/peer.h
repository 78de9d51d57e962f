// A coprocess that trains beside us and answers one line of JSON per line it is asked.
#pragma once
#include <fmt/format.h>
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <vector>

#include "whence/tensor/parallel.h"

namespace bench {

class Peer {
 public:
  explicit Peer(std::vector<std::string> command) {
    int to[2], from[2];
    if (pipe2(to, O_CLOEXEC) || pipe2(from, O_CLOEXEC)) return;
    std::vector<char*> words;
    for (std::string& word : command) words.push_back(word.data());
    words.push_back(nullptr);
    child_ = fork();
    if (child_ == 0) {
      dup2(to[0], 0);
      dup2(from[1], 1);
      execvp(words[0], words.data());
      _exit(127);
    }
    close(to[0]);
    close(from[1]);
    out_ = fdopen(to[1], "w");
    in_ = fdopen(from[0], "r");
  }
  ~Peer() {
    if (out_) fclose(out_);
    if (in_) fclose(in_);
    if (child_ > 0) waitpid(child_, nullptr, 0);
  }
  Peer(const Peer&) = delete;

  void send(const std::string& request) {
    fprintf(out_, "%s\n", request.c_str());
    fflush(out_);
  }
  nlohmann::json receive() {
    std::string line;
    for (int c; (c = fgetc(in_)) != EOF && c != '\n';) line += char(c);
    if (line.empty()) throw std::runtime_error("a peer ended without an answer");
    return nlohmann::json::parse(line);
  }
  nlohmann::json ask(const std::string& request) {
    send(request);
    return receive();
  }

 private:
  pid_t child_ = -1;
  FILE *out_ = nullptr, *in_ = nullptr;
};

/// PyTorch's side, bench/peer_torch.py, on as many threads as ours; nullptr, and a line that says so, where there is no
/// PyTorch.
inline std::unique_ptr<Peer> torch_peer() {
  const char* python = getenv("WHENCE_PYTHON");
  std::string command = python ? python : "python3";
  if (system((command + " -c 'import torch' >/dev/null 2>&1").c_str()) != 0) {
    fmt::print("no PyTorch for {}: the peer's column stays empty (pip install torch, or WHENCE_PYTHON=...)\n", command);
    return nullptr;
  }
  setenv("WHENCE_THREADS", std::to_string(whence::cpu::num_threads()).c_str(), 1);
  return std::make_unique<Peer>(std::vector<std::string>{command, WHENCE_BENCH_DIR "/peer_torch.py"});
}

}  // namespace bench
