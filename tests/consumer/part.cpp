#include <whence/whence.h>

const char* version_seen_by_part() { return whence::version(); }
