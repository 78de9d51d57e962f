#include <whence/data.h>
#include <whence/lrp.h>
#include <whence/models.h>
#include <whence/nn.h>
#include <whence/whence.h>

const char* version_seen_by_part() { return whence::version(); }
