// Two machines with an agent each, a link between them, a source on the one and targets on either: the fixture of the
// migration tests. Each step is one call that the tests may leave out, repeat or reorder.
#pragma once

#include <gtest/gtest.h>

#include <optional>

#include "trusted/agent/testing/enclave.h"
#include "trusted/agent/testing/wire.h"

namespace sealift::agent::testing {

struct Scene : ::testing::Test {
  using Role = messages::LocalRole;
  static constexpr Attempt kAttempt = {0xa1};

  // An enclave and its session with one agent.
  struct Player {
    TestEnclave enclave;
    SessionId session = 0;
  };

  TestCpu cpu_a{1}, cpu_b{2};
  TestAgent a{cpu_a, 1}, b{cpu_b, 2};
  TestLink link{a, b};
  Player source{{cpu_a, Role::kSource, kAttempt, 0x21}};
  Player target{{cpu_b, Role::kTarget, kAttempt, 0x31}};

  static void meet(Player& player, TestAgent& agent) {
    const auto reply = agent->local_hello(player.enclave.hello(agent->hello()));
    ASSERT_TRUE(reply.ok()) << errc_name(reply.error());
    ASSERT_TRUE(player.enclave.confirm(reply->confirm));
    player.session = reply->session;
  }
  static Errc say(Player& player, TestAgent& agent, const Bytes& message) {
    return agent->local_message(player.session, message).error();
  }

  void prepare() {
    meet(source, a);
    ASSERT_EQ(say(source, a, source.enclave.prepare()), Errc::kOk);
  }
  void offer() {
    ASSERT_EQ(a->offer(kAttempt, link.at_client), Errc::kOk);
    link.carry();
    ASSERT_TRUE(event_of(b, EventKind::kOfferArrived));
    ASSERT_TRUE(event_of(a, EventKind::kOfferAccepted));
  }
  // The target takes the key from `agent`; false if it was refused or is another key.
  static bool take_key(Player& player, TestAgent& agent) {
    const auto reply = agent->local_message(player.session, player.enclave.key_request());
    if (!reply.ok()) return false;
    const auto key = player.enclave.expect<messages::KeyDelivery>(messages::SealedKind::kKeyDelivery, *reply);
    return key && key->key[0] == 0x4b && key->epoch == 5;
  }
  void restore() {
    meet(target, b);
    ASSERT_TRUE(take_key(target, b));
    ASSERT_EQ(say(target, b, target.enclave.ready_notice()), Errc::kOk);
    link.carry();
  }
  void commit() { ASSERT_EQ(say(source, a, source.enclave.ticket()), Errc::kOk); }
  // What the agent has for this target now.
  static std::optional<messages::Grant> grant_of(Player& player, TestAgent& agent) {
    const auto sealed = agent->local_poll(player.session);
    if (!sealed.ok() || sealed->empty()) return std::nullopt;
    return player.enclave.expect<messages::Grant>(messages::SealedKind::kGrant, *sealed);
  }
  // Until just before the grant.
  void until_ticket() {
    prepare();
    offer();
    restore();
    commit();
  }
};

}  // namespace sealift::agent::testing
