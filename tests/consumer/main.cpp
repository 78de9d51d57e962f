#include <whence/whence.h>

#include <cstdio>
#include <cstring>

const char* version_seen_by_part();

int main() {
  if (std::strcmp(whence::version(), version_seen_by_part()) != 0) return 1;
  std::printf("consumer: whence %s\n", whence::version());
  return 0;
}
