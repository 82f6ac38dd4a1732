# The data's side: compiled into the enclave, and for the host, where tests and sanitizers get at it.
set(KV_STORE_SOURCES
  batch.cc command.cc glob.cc hash_commands.cc key_commands.cc list_commands.cc reply.cc resp.cc server_commands.cc
  set_commands.cc sorted_set_commands.cc string_commands.cc table.cc value.cc)
list(TRANSFORM KV_STORE_SOURCES PREPEND ${CMAKE_CURRENT_LIST_DIR}/store/)
