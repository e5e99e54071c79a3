// Calls with nothing to do: starting and ending, profiling, dumps, logs, options. Each answers that all went well.
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define HARMLESS(name) int name(void) { return 0; }

HARMLESS(aclInit) HARMLESS(aclFinalize) HARMLESS(aclAppLog)
HARMLESS(aclmdlInitDump) HARMLESS(aclmdlSetDump) HARMLESS(aclmdlFinalizeDump)
HARMLESS(MsprofGetHashId) HARMLESS(MsprofRegisterCallback) HARMLESS(MsprofReportAdditionalInfo) HARMLESS(MsprofReportApi)
HARMLESS(MsprofReportCompactInfo) HARMLESS(MsprofSysCycleTime)
HARMLESS(aclrtSetDeviceSatMode) HARMLESS(aclrtSetOpExecuteTimeOut) HARMLESS(aclrtSetOpExecuteTimeOutV2)
HARMLESS(aclrtSetOpWaitTimeout) HARMLESS(aclrtSetStreamFailureMode) HARMLESS(aclrtSetStreamAttribute)
HARMLESS(aclrtCtxSetSysParamOpt) HARMLESS(aclrtSetSysParamOpt) HARMLESS(aclSetCompileopt)
HARMLESS(aclrtGetLastError) HARMLESS(aclrtPeekAtLastError)
HARMLESS(aclrtSubscribeReport) HARMLESS(aclrtUnSubscribeReport) HARMLESS(aclrtProcessReport)

// Options of the system: none is on.
int aclrtGetSysParamOpt(int option, int64_t *value) { return *value = 0; }
int aclrtCtxGetSysParamOpt(int option, int64_t *value) { return *value = 0; }
size_t aclGetCompileoptSize(int option) { return 64; }
int aclGetCompileopt(int option, char *value, size_t room) {
  strncpy(value, "disable", room);
  return 0;
}
