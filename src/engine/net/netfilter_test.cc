// Packet filter chains made by hand (no tool needed) and found again. Needs root.
#include "engine/net/netfilter.h"

#include <arpa/inet.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>

#include <array>
#include <cstring>

#include <gtest/gtest.h>

#include "engine/net/netlink.h"
#include "port/afxdp/test_netns.h"

namespace toe::engine::net {
namespace {

/// A batch of nf_tables commands, sent as one datagram.
class Batch {
 public:
  Batch() { begin_end(NFNL_MSG_BATCH_BEGIN); }

  void table(std::uint8_t family) {
    nlmsghdr* message = add(NFT_MSG_NEWTABLE, family);
    mnl_attr_put_strz(message, NFTA_TABLE_NAME, "t");
    used_ += message->nlmsg_len;
  }
  void chain(std::uint8_t family, const char* name, int hook) {
    nlmsghdr* message = add(NFT_MSG_NEWCHAIN, family);
    mnl_attr_put_strz(message, NFTA_CHAIN_TABLE, "t");
    mnl_attr_put_strz(message, NFTA_CHAIN_NAME, name);
    if (hook >= 0) {
      nlattr* nest = mnl_attr_nest_start(message, NFTA_CHAIN_HOOK);
      mnl_attr_put_u32(message, NFTA_HOOK_HOOKNUM, htonl(static_cast<std::uint32_t>(hook)));
      mnl_attr_put_u32(message, NFTA_HOOK_PRIORITY, 0);
      mnl_attr_nest_end(message, nest);
      mnl_attr_put_strz(message, NFTA_CHAIN_TYPE, "filter");
    }
    used_ += message->nlmsg_len;
  }
  /// 0, the first errno the kernel answers, or -1 if there is no nf_tables.
  int send() {
    begin_end(NFNL_MSG_BATCH_END);
    mnl_socket* socket = mnl_socket_open(NETLINK_NETFILTER);
    if (socket == nullptr) return -1;
    int code = mnl_socket_sendto(socket, buffer_.data(), used_) < 0 ? errno : 0;
    std::array<char, 8192> answer;
    for (unsigned i = 0; i < acks_ && code == 0; ++i) {
      const ssize_t length = mnl_socket_recvfrom(socket, answer.data(), answer.size());
      if (mnl_cb_run(answer.data(), static_cast<std::size_t>(length), 0, 0, nullptr, nullptr) < 0) {
        code = errno;
      }
    }
    mnl_socket_close(socket);
    return code;
  }

 private:
  nlmsghdr* put(unsigned type, unsigned flags, std::uint8_t family, std::uint16_t resource) {
    nlmsghdr* message = mnl_nlmsg_put_header(buffer_.data() + used_);
    message->nlmsg_type = static_cast<std::uint16_t>(type);
    message->nlmsg_flags = static_cast<std::uint16_t>(NLM_F_REQUEST | flags);
    auto* header = static_cast<nfgenmsg*>(mnl_nlmsg_put_extra_header(message, sizeof(nfgenmsg)));
    header->nfgen_family = family;
    header->version = NFNETLINK_V0;
    header->res_id = htons(resource);
    return message;
  }
  nlmsghdr* add(unsigned command, std::uint8_t family) {
    acks_++;
    return put(NFNL_SUBSYS_NFTABLES << 8 | command, NLM_F_CREATE | NLM_F_ACK, family, 0);
  }
  void begin_end(unsigned type) { used_ += put(type, 0, 0, NFNL_SUBSYS_NFTABLES)->nlmsg_len; }

  alignas(nlmsghdr) std::array<char, 4096> buffer_{};
  std::size_t used_ = 0;
  unsigned acks_ = 0;
};

class NetfilterTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!netns_.permitted()) GTEST_SKIP() << "packet filter: needs root";
  }
  void make(std::uint8_t family, int hook) {
    Batch batch;
    batch.table(family);
    batch.chain(family, "c", hook);
    const int code = batch.send();
    if (code == -1) GTEST_SKIP() << "packet filter: this kernel has no nf_tables";
    ASSERT_EQ(code, 0) << strerror(code);
  }
  std::string found() {
    auto chain = find_input_filter();
    EXPECT_TRUE(chain.ok());
    return chain.ok() ? chain.value() : chain.error().text;
  }
  port::TestNetns netns_;
};

TEST_F(NetfilterTest, FindsNothingWhereNothingIs) { EXPECT_EQ(found(), ""); }

TEST_F(NetfilterTest, FindsInputChains) {
  make(NFPROTO_IPV4, NF_INET_LOCAL_IN);
  EXPECT_EQ(found(), "nftables chain t/c");
}

TEST_F(NetfilterTest, FindsPreroutingChains) {
  make(NFPROTO_INET, NF_INET_PRE_ROUTING);
  EXPECT_EQ(found(), "nftables chain t/c");
}

TEST_F(NetfilterTest, OverlooksChainsThatFramesForUsDoNotPass) {
  make(NFPROTO_IPV6, NF_INET_FORWARD);
  make(NFPROTO_IPV4, NF_INET_LOCAL_OUT);
  make(NFPROTO_INET, -1);
  EXPECT_EQ(found(), "");
}

}  // namespace
}  // namespace toe::engine::net
