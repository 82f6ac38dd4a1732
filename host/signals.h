// The host runtime's part in signals: exceptions of an enclave, and the kick.
//
// Handlers of the application stay what they are: ours are installed once, before the first enclave, and pass on
// whatever is not an enclave's. Only two instructions are ours: the AEP and ENCLU (host/enclu.S).
#pragma once

#include <pthread.h>

namespace sealift::host {

// Installs handlers for SIGILL, SIGSEGV, SIGBUS, SIGFPE, SIGTRAP and the kick. Any thread, any number of times.
// Throws Error when a signal cannot be handled.
void install_signal_handlers();

// Makes `thread`, if it is inside an enclave, take an AEX. Nothing happens to its system calls (SA_RESTART).
void kick(pthread_t thread);

// Lets this thread be kicked and take enclave exceptions, whatever mask it inherited.
void unblock_enclave_signals();

}  // namespace sealift::host
