// Relevance: rules, ledger, explanations and their pages: #include <whence/lrp.h>.
#pragma once

#include "whence/lrp/evaluation.h"
#include "whence/lrp/explain.h"
#include "whence/lrp/ledger.h"
#include "whence/lrp/presets.h"
#include "whence/lrp/report.h"
#include "whence/lrp/seed.h"
#include "whence/whence.h"
