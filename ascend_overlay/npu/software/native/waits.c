// What the host waited for.
#include "runtime.h"

_Atomic long software_npu_waits[WAIT_KINDS];
static void (*_Atomic listener)(int kind);

// NULL: nobody listens any more.
void software_npu_listen(void (*told)(int)) { listener = told; }

void software_npu_waited(int kind) {
  software_npu_waits[kind]++;
  void (*told)(int) = listener;
  if (told) told(kind);
}
