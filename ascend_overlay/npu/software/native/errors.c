// Errors: a number for the caller, a sentence for whoever asks afterwards.
#include "runtime.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static __thread char sentence[1200];

int software_npu_fail(int code, const char *format, ...) {
  int used = snprintf(sentence, sizeof sentence, "software NPU: ");
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(sentence + used, sizeof sentence - used, format, arguments);
  va_end(arguments);
  return code;
}

// The sentence of a task that failed, from where the task is.
void software_npu_say(const char *text) { snprintf(sentence, sizeof sentence, "%s", text); }

const char *aclGetRecentErrMsg(void) { return sentence; }

// What CANN would have done; called by the generated definition of each function that nobody has written.
int software_npu_refuse(const char *function) {
  return software_npu_fail(NOT_SUPPORTED, "it has no %s. What needs that function of CANN runs on a card only.", function);
}

long long software_npu_number(const char *variable, long long otherwise) {
  const char *text = getenv(variable);
  return text && *text ? atoll(text) : otherwise;
}
