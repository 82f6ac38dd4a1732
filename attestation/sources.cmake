# The sources that run inside the agent enclave as well as on the host: no files, no sockets, no threads. Whoever
# compiles them needs the project's root and include/ on the include path, C++20, nlohmann-json, libssl and libcrypto.
set(SEALIFT_ATTESTATION_SOURCES
    bytes.cc
    chain.cc
    collateral.cc
    collateral_json.cc
    crypto.cc
    evidence.cc
    names.cc
    pck.cc
    quote.cc
    ratls.cc
    ratls_identity.cc
    tcb.cc
    trust_anchors.cc
    verify.cc)
list(TRANSFORM SEALIFT_ATTESTATION_SOURCES PREPEND ${CMAKE_CURRENT_LIST_DIR}/)
