#include "engine/net/netlink.h"

#include <linux/rtnetlink.h>
#include <sys/socket.h>

#include <cstring>
#include <string>

#include <gtest/gtest.h>

#include "engine/net/events.h"
#include "engine/net/neighbours.h"

namespace toe::engine::net {
namespace {

TEST(Attributes, ReadsWhatHasTheRightSizeAndNothingElse) {
  Request request(RTM_NEWLINK, 0);
  request.header<ifinfomsg>();
  nlmsghdr& message = request.message();
  mnl_attr_put_u32(&message, 1, 0x01020304);
  mnl_attr_put_u8(&message, 2, 7);
  mnl_attr_put(&message, 3, 4, "\x0a\x00\x00\x01");
  mnl_attr_put(&message, 4, 5, "short");
  mnl_attr_put(&message, 5, 3, "abc");  // no terminating zero
  mnl_attr_put(&message, 6, 6, "\x02\x00\x00\x00\x00\x01");
  mnl_attr_put(&message, 200, 1, "x");  // beyond what is kept
  const Attributes attributes(message, sizeof(ifinfomsg));
  EXPECT_EQ(attributes.u32(1), 0x01020304u);
  EXPECT_FALSE(attributes.u32(2).has_value()) << "one byte is no u32";
  EXPECT_EQ(attributes.u8(2), 7);
  EXPECT_EQ(attributes.address(3), IpAddr::v4(10, 0, 0, 1));
  EXPECT_FALSE(attributes.address(4).has_value());
  EXPECT_FALSE(attributes.mac(4).has_value());
  EXPECT_EQ(attributes.text(5), "abc");
  EXPECT_EQ(attributes.mac(6), (MacAddr{{2, 0, 0, 0, 0, 1}}));
  EXPECT_EQ(attributes.text(7), "");
  EXPECT_EQ(attributes.find(200), nullptr);
}

TEST(Attributes, StopsAtAnAttributeThatClaimsTooMuch) {
  Request request(RTM_NEWLINK, 0);
  request.header<ifinfomsg>();
  nlmsghdr& message = request.message();
  mnl_attr_put_u32(&message, 1, 1);
  auto* liar = static_cast<nlattr*>(mnl_nlmsg_get_payload_tail(&message));
  mnl_attr_put_u32(&message, 2, 2);
  for (const int length : {0, 3, 9, 4000}) {
    liar->nla_len = static_cast<std::uint16_t>(length);
    const Attributes attributes(message, sizeof(ifinfomsg));
    EXPECT_TRUE(attributes.u32(1).has_value());
    EXPECT_FALSE(attributes.u32(2).has_value()) << length;
  }
}

TEST(Parsers, RefuseMessagesShorterThanTheirHeader) {
  for (const std::uint16_t type :
       {std::uint16_t{RTM_NEWLINK}, std::uint16_t{RTM_NEWADDR}, std::uint16_t{RTM_NEWNEIGH}}) {
    Request request(type, 0);
    EXPECT_FALSE(parse_link(request.message()).has_value());
    EXPECT_FALSE(parse_address(request.message()).has_value());
    EXPECT_FALSE(parse_neighbour(request.message()).has_value());
  }
}

TEST(Parsers, TellUsableFromTentativeAddresses) {
  const auto parse = [](std::uint16_t type, std::uint32_t flags) {
    Request request(type, 0);
    auto& header = request.header<ifaddrmsg>();
    header.ifa_family = AF_INET6;
    header.ifa_index = 3;
    const std::uint8_t bytes[16] = {0xfd, 1};
    mnl_attr_put(&request.message(), IFA_ADDRESS, sizeof(bytes), bytes);
    mnl_attr_put_u32(&request.message(), IFA_FLAGS, flags);
    return parse_address(request.message()).value().added;
  };
  EXPECT_TRUE(parse(RTM_NEWADDR, 0));
  EXPECT_FALSE(parse(RTM_NEWADDR, IFA_F_TENTATIVE));
  EXPECT_FALSE(parse(RTM_NEWADDR, IFA_F_DADFAILED));
  EXPECT_TRUE(parse(RTM_NEWADDR, IFA_F_TENTATIVE | IFA_F_OPTIMISTIC));
  EXPECT_FALSE(parse(RTM_DELADDR, 0));
}

}  // namespace
}  // namespace toe::engine::net
