// A test in the place of an agent: on a software machine it can make the REPORTs of the identity that manifests pin, so
// it learns K, can read a stream, and can write records with right tags and wrong contents.
//
// This is stronger than any adversary of the threat model (only attested enclaves hold K); it exists because checks
// behind a good tag cannot be reached otherwise.
#pragma once

#include <string>
#include <vector>

#include "tests/lab/lab.h"
#include "trusted/agent/session.h"

namespace sealift::lab {

struct OpenStream;

class KeyHolder {
 public:
  // A fresh agent instance of `machine`. `identity` and `flags`: what its REPORTs say it is.
  explicit KeyHolder(const LabMachine& machine, std::uint8_t identity = kAgentByte, std::uint64_t flags = 0);

  [[nodiscard]] Bytes hello() const;
  // Hello and confirmation with an enclave; its first sealed message is in `first`.
  Errc meet(Peer& enclave);
  // Source: the Prepare in `first`.
  [[nodiscard]] messages::Prepare prepare() const;
  // Target: seals a KeyDelivery and gives it to the enclave.
  Errc deliver(Peer& target, const messages::KeyDelivery& delivery);
  // Target: the role, the session, the key and these records; up to the final one if all goes well.
  Errc restore(Peer& target, const OpenStream& stream, const std::vector<Bytes>& sealed);
  // Target: the grant for what it restored, whatever becomes of the source.
  Errc grant(Peer& target, const OpenStream& stream);

  LabCpu cpu;
  agent::Instance self;
  agent::LocalSession session;
  messages::EnclaveHello enclave_hello{};
  Bytes confirm;  // the last one
  Bytes first;
};

// One decrypted record.
struct PlainRecord {
  record::RecordHeader header{};
  Bytes body;
};

// A stream whose key the test knows.
struct OpenStream {
  messages::Prepare prepare{};
  std::vector<PlainRecord> records;

  // Decrypts what the source sealed. Fails the test on a bad tag.
  static OpenStream of(const messages::Prepare& prepare, const std::vector<Bytes>& sealed);
  // Numbers the records anew, makes the final record's digest and counts fit them (unless told not to), and seals.
  [[nodiscard]] std::vector<Bytes> seal(bool mend_final = true) const;
  [[nodiscard]] messages::KeyDelivery delivery() const;
  [[nodiscard]] record::Final final_record() const;
  void set_final(const record::Final& f);
};

// Quiesces by the runtime, then all records.
std::vector<Bytes> dump_all(Peer& source);
// All records from here to the final one; the gate is closed already.
std::vector<Bytes> dump_rest(Peer& source);
// Record by record.
Errc feed(Peer& target, const std::vector<Bytes>& records);
// The whole records that a kDump gave.
std::vector<Bytes> split(const Bytes& batch);
bool is_final(const Bytes& record);

}  // namespace sealift::lab
