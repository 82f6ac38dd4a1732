// A process whose enclave is checkpointed into memory and rebuilt in place, as in a VM: the test is broker and agent.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "migration/record.h"
#include "tests/enclaves/counter_calls.h"
#include "tests/lab/lab.h"

namespace sealift::lab {

class InPlace {
 public:
  InPlace(LabMachine& machine, Peer& peer) : machine_(machine), peer_(peer) {}

  Errc prepare() {
    Bytes hello, sealed;
    if (const Errc e = peer_.control(abi::ControlOp::kAgentHello, machine_.agent->hello(), hello); e != Errc::kOk) {
      return e;
    }
    messages::EnclaveHello h{};
    std::memcpy(&h, hello.data(), sizeof h);
    std::copy(std::begin(h.attempt), std::end(h.attempt), attempt.begin());
    const auto reply = machine_.agent->local_hello(hello);
    if (!reply.ok()) return reply.error();
    source_session = reply->session;
    if (const Errc e = peer_.control(abi::ControlOp::kAgentConfirm, reply->confirm, sealed); e != Errc::kOk) return e;
    return machine_.agent->local_message(source_session, sealed).error();
  }
  // Quiesced, settled, dumped into `records`.
  Errc hold() {
    if (const Errc e = peer_.quiesce(); e != Errc::kOk) return e;
    if (const Errc e = peer_.settle(); e != Errc::kOk) return e;
    records.clear();
    for (bool final = false; !final;) {
      Bytes batch;
      if (const Errc e = peer_.control(abi::ControlOp::kDump, {}, batch); e != Errc::kOk) return e;
      record::RecordHeader h{};
      std::memcpy(&h, batch.data(), sizeof h);
      final = h.kind == static_cast<std::uint16_t>(record::Kind::kFinal);
      records.push_back(std::move(batch));
    }
    return Errc::kOk;
  }
  Errc commit() {
    if (const Errc e = peer_.control(abi::ControlOp::kCommitHeld, {}, ticket); e != Errc::kOk) return e;
    return machine_.agent->local_message(source_session, ticket).error();
  }
  Errc checkpoint() {
    if (const Errc e = prepare(); e != Errc::kOk) return e;
    if (const Errc e = hold(); e != Errc::kOk) return e;
    return commit();
  }
  // What `peer` (that of the checkpoint, or another) does in the target's role, up to its notice.
  Errc restore(Peer& peer) {
    Bytes hello, request, notice;
    if (const Errc e = peer.control(abi::ControlOp::kAgentHello, machine_.agent->hello(), hello); e != Errc::kOk) {
      return e;
    }
    const auto reply = machine_.agent->local_hello(hello);
    if (!reply.ok()) return reply.error();
    target_session = reply->session;
    if (const Errc e = peer.control(abi::ControlOp::kAgentConfirm, reply->confirm, request); e != Errc::kOk) return e;
    const auto key = machine_.agent->local_message(target_session, request);
    if (!key.ok()) return key.error();
    if (const Errc e = peer.control(abi::ControlOp::kInstallKey, *key); e != Errc::kOk) return e;
    for (const Bytes& r : records) {
      if (const Errc e = peer.control(abi::ControlOp::kRecord, r); e != Errc::kOk) return e;
    }
    if (const Errc e = peer.control(abi::ControlOp::kReady, {}, notice); e != Errc::kOk) return e;
    return machine_.agent->local_message(target_session, notice).error();
  }
  Errc fetch_grant() {
    if (const Errc e = machine_.agent->request_grant(target_session, agent::kSelf); e != Errc::kOk) return e;
    const auto sealed = machine_.agent->local_poll(target_session);
    if (!sealed.ok()) return sealed.error();
    grant = *sealed;
    return grant.empty() ? Errc::kNoTicket : Errc::kOk;
  }
  Errc go_on(Peer& peer) {
    if (const Errc e = fetch_grant(); e != Errc::kOk) return e;
    if (const Errc e = peer.control(abi::ControlOp::kGrant, grant); e != Errc::kOk) return e;
    Bytes none;
    return peer.request(Op::kResumed, {}, none);
  }
  Errc resume() {
    if (const Errc e = peer_.rebuild(attempt); e != Errc::kOk) return e;
    if (const Errc e = restore(peer_); e != Errc::kOk) return e;
    return go_on(peer_);
  }

  agent::Attempt attempt{};
  std::vector<Bytes> records;
  Bytes ticket, grant;
  agent::SessionId source_session = 0, target_session = 0;

 private:
  LabMachine& machine_;
  Peer& peer_;
};

}  // namespace sealift::lab
