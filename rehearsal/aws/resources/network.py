"""VPC and what is in it, made in moto: others refer to it, it costs money, it blocks a delete."""

# Every handler has the same methods, with all parameters, needed or not.
# ruff: noqa: ARG002

from typing import Any

from rehearsal.aws.resources.kind import Aws, Properties, first, given, kind, name_of, part, tag_list


def _specified(resource: str, inputs: Properties) -> list[dict[str, Any]]:
    """Tags in the call that makes an EC2 resource."""
    tags = tag_list(inputs.get("tags"))
    return [{"ResourceType": resource, "Tags": tags}] if tags else []


class Tagged:
    """An EC2 resource whose tags can be changed by its id."""

    def update(self, aws: Aws, id_: str, old: Properties, new: Properties) -> None:
        """Changes the tags."""
        gone = set(part(old, "tags")) - set(part(new, "tags"))
        if gone:
            aws.client("ec2").delete_tags(Resources=[id_], Tags=[{"Key": key} for key in gone])
        if new.get("tags"):
            aws.client("ec2").create_tags(Resources=[id_], Tags=tag_list(new["tags"]))


_DNS = {"enableDnsSupport": "EnableDnsSupport", "enableDnsHostnames": "EnableDnsHostnames"}


class Vpc(Tagged):
    """aws.ec2.Vpc."""

    def create(self, aws: Aws, inputs: Properties) -> str:
        """Makes a VPC."""
        ec2 = aws.client("ec2")
        made = ec2.create_vpc(
            TagSpecifications=_specified("vpc", inputs),
            **given(inputs, CidrBlock="cidrBlock", InstanceTenancy="instanceTenancy"),
        )
        id_ = str(made["Vpc"]["VpcId"])
        self._set(ec2, id_, inputs)
        return id_

    def _set(self, ec2: Any, id_: str, inputs: Properties) -> None:
        for key, parameter in _DNS.items():
            if inputs.get(key) is not None:
                ec2.modify_vpc_attribute(VpcId=id_, **{parameter: {"Value": inputs[key]}})

    def read(self, aws: Aws, id_: str, known: Properties) -> Properties | None:
        """Describes a VPC and what EC2 made with it."""
        ec2 = aws.client("ec2")
        vpc = first(ec2.describe_vpcs(VpcIds=[id_])["Vpcs"])
        here = [{"Name": "vpc-id", "Values": [id_]}]
        table = ec2.describe_route_tables(Filters=here)["RouteTables"]
        acls = ec2.describe_network_acls(Filters=here)["NetworkAcls"]
        groups = ec2.describe_security_groups(Filters=here)["SecurityGroups"]
        attributes = {
            key: ec2.describe_vpc_attribute(VpcId=id_, Attribute=key)[parameter]["Value"]
            for key, parameter in _DNS.items()
        }
        return {
            **attributes,
            "cidrBlock": vpc["CidrBlock"],
            "instanceTenancy": vpc["InstanceTenancy"],
            "arn": aws.arn("ec2", f"vpc/{id_}"),
            "ownerId": aws.account,
            "dhcpOptionsId": vpc["DhcpOptionsId"],
            "mainRouteTableId": first(table)["RouteTableId"],
            "defaultRouteTableId": first(table)["RouteTableId"],
            "defaultNetworkAclId": first(acls)["NetworkAclId"],
            "defaultSecurityGroupId": next(g["GroupId"] for g in groups if g["GroupName"] == "default"),
        }

    def update(self, aws: Aws, id_: str, old: Properties, new: Properties) -> None:
        """Changes attributes and tags."""
        super().update(aws, id_, old, new)
        self._set(aws.client("ec2"), id_, new)

    def delete(self, aws: Aws, id_: str, known: Properties) -> None:
        """Removes it; EC2 refuses while something is in it."""
        aws.client("ec2").delete_vpc(VpcId=id_)


class Subnet(Tagged):
    """aws.ec2.Subnet."""

    def create(self, aws: Aws, inputs: Properties) -> str:
        """Makes a subnet."""
        ec2 = aws.client("ec2")
        made = ec2.create_subnet(
            TagSpecifications=_specified("subnet", inputs),
            **given(
                inputs,
                VpcId="vpcId",
                CidrBlock="cidrBlock",
                AvailabilityZone="availabilityZone",
                AvailabilityZoneId="availabilityZoneId",
            ),
        )
        id_ = str(made["Subnet"]["SubnetId"])
        self._set(ec2, id_, inputs)
        return id_

    def _set(self, ec2: Any, id_: str, inputs: Properties) -> None:
        if inputs.get("mapPublicIpOnLaunch") is not None:
            value = {"Value": inputs["mapPublicIpOnLaunch"]}
            ec2.modify_subnet_attribute(SubnetId=id_, MapPublicIpOnLaunch=value)

    def read(self, aws: Aws, id_: str, known: Properties) -> Properties | None:
        """Describes a subnet."""
        subnet = first(aws.client("ec2").describe_subnets(SubnetIds=[id_])["Subnets"])
        return {
            "vpcId": subnet["VpcId"],
            "cidrBlock": subnet["CidrBlock"],
            "availabilityZone": subnet["AvailabilityZone"],
            "availabilityZoneId": subnet["AvailabilityZoneId"],
            "mapPublicIpOnLaunch": subnet["MapPublicIpOnLaunch"],
            "privateDnsHostnameTypeOnLaunch": "ip-name",
            "arn": aws.arn("ec2", f"subnet/{id_}"),
            "ownerId": aws.account,
        }

    def update(self, aws: Aws, id_: str, old: Properties, new: Properties) -> None:
        """Changes the attribute and tags."""
        super().update(aws, id_, old, new)
        self._set(aws.client("ec2"), id_, new)

    def delete(self, aws: Aws, id_: str, known: Properties) -> None:
        """Removes it."""
        aws.client("ec2").delete_subnet(SubnetId=id_)


class InternetGateway(Tagged):
    """aws.ec2.InternetGateway."""

    def create(self, aws: Aws, inputs: Properties) -> str:
        """Makes one and attaches it to its VPC."""
        ec2 = aws.client("ec2")
        made = ec2.create_internet_gateway(TagSpecifications=_specified("internet-gateway", inputs))
        id_ = str(made["InternetGateway"]["InternetGatewayId"])
        if inputs.get("vpcId"):
            ec2.attach_internet_gateway(InternetGatewayId=id_, VpcId=inputs["vpcId"])
        return id_

    def read(self, aws: Aws, id_: str, known: Properties) -> Properties | None:
        """Describes it."""
        found = aws.client("ec2").describe_internet_gateways(InternetGatewayIds=[id_])
        attached = first(found["InternetGateways"])["Attachments"]
        return {
            "vpcId": attached[0]["VpcId"] if attached else "",
            "arn": aws.arn("ec2", f"internet-gateway/{id_}"),
            "ownerId": aws.account,
        }

    def update(self, aws: Aws, id_: str, old: Properties, new: Properties) -> None:
        """Moves it to another VPC."""
        super().update(aws, id_, old, new)
        if old.get("vpcId") != new.get("vpcId"):
            ec2 = aws.client("ec2")
            if old.get("vpcId"):
                ec2.detach_internet_gateway(InternetGatewayId=id_, VpcId=old["vpcId"])
            if new.get("vpcId"):
                ec2.attach_internet_gateway(InternetGatewayId=id_, VpcId=new["vpcId"])

    def delete(self, aws: Aws, id_: str, known: Properties) -> None:
        """Detaches and removes it."""
        ec2 = aws.client("ec2")
        if known.get("vpcId"):
            ec2.detach_internet_gateway(InternetGatewayId=id_, VpcId=known["vpcId"])
        ec2.delete_internet_gateway(InternetGatewayId=id_)


class Eip(Tagged):
    """aws.ec2.Eip."""

    def create(self, aws: Aws, inputs: Properties) -> str:
        """Allocates an address."""
        ec2 = aws.client("ec2")
        made = ec2.allocate_address(Domain="vpc", TagSpecifications=_specified("elastic-ip", inputs))
        return str(made["AllocationId"])

    def read(self, aws: Aws, id_: str, known: Properties) -> Properties | None:
        """Describes it."""
        address = first(aws.client("ec2").describe_addresses(AllocationIds=[id_])["Addresses"])
        ip = address["PublicIp"]
        return {
            "allocationId": id_,
            "publicIp": ip,
            "publicDns": f"ec2-{ip.replace('.', '-')}.compute-1.amazonaws.com",
            "domain": "vpc",
            "networkBorderGroup": aws.region,
            "publicIpv4Pool": "amazon",
            "arn": aws.arn("ec2", f"elastic-ip/{id_}"),
        }

    def delete(self, aws: Aws, id_: str, known: Properties) -> None:
        """Gives it back."""
        aws.client("ec2").release_address(AllocationId=id_)


class NatGateway(Tagged):
    """aws.ec2.NatGateway."""

    def create(self, aws: Aws, inputs: Properties) -> str:
        """Makes one in its subnet."""
        names = {
            "AllocationId": "allocationId",
            "SubnetId": "subnetId",
            "ConnectivityType": "connectivityType",
        }
        made = aws.client("ec2").create_nat_gateway(
            TagSpecifications=_specified("natgateway", inputs), **given(inputs, **names)
        )
        return str(made["NatGateway"]["NatGatewayId"])

    def read(self, aws: Aws, id_: str, known: Properties) -> Properties | None:
        """Describes it; a deleted one stays in AWS's list for a while and is none."""
        found = aws.client("ec2").describe_nat_gateways(NatGatewayIds=[id_])["NatGateways"]
        nat = first([item for item in found if item["State"] != "deleted"])
        address: Properties = nat["NatGatewayAddresses"][0] if nat["NatGatewayAddresses"] else {}
        return {
            "subnetId": nat["SubnetId"],
            "vpcId": nat["VpcId"],
            "connectivityType": nat.get("ConnectivityType", "public"),
            "allocationId": address.get("AllocationId", ""),
            "associationId": f"eipassoc-{id_.removeprefix('nat-')}",
            "publicIp": address.get("PublicIp", ""),
            "privateIp": address.get("PrivateIp", ""),
            "networkInterfaceId": address.get("NetworkInterfaceId", ""),
            "availabilityMode": "zonal",
        }

    def delete(self, aws: Aws, id_: str, known: Properties) -> None:
        """Removes it."""
        aws.client("ec2").delete_nat_gateway(NatGatewayId=id_)


class SecurityGroup(Tagged):
    """aws.ec2.SecurityGroup. Rules are kept in the state only."""

    def create(self, aws: Aws, inputs: Properties) -> str:
        """Makes a group."""
        made = aws.client("ec2").create_security_group(
            GroupName=name_of(inputs),
            Description=inputs.get("description") or "Managed by Pulumi",
            TagSpecifications=_specified("security-group", inputs),
            **given(inputs, VpcId="vpcId"),
        )
        return str(made["GroupId"])

    def read(self, aws: Aws, id_: str, known: Properties) -> Properties | None:
        """Describes it."""
        group = first(aws.client("ec2").describe_security_groups(GroupIds=[id_])["SecurityGroups"])
        return {
            "name": group["GroupName"],
            "description": group["Description"],
            "vpcId": group["VpcId"],
            "arn": aws.arn("ec2", f"security-group/{id_}"),
            "ownerId": aws.account,
        }

    def delete(self, aws: Aws, id_: str, known: Properties) -> None:
        """Removes it; EC2 refuses while something uses it."""
        aws.client("ec2").delete_security_group(GroupId=id_)


class VpcEndpoint(Tagged):
    """aws.ec2.VpcEndpoint."""

    def create(self, aws: Aws, inputs: Properties) -> str:
        """Makes one. Route tables are in the store only, so moto is not told of them."""
        made = aws.client("ec2").create_vpc_endpoint(
            TagSpecifications=_specified("vpc-endpoint", inputs),
            **given(
                inputs,
                VpcId="vpcId",
                ServiceName="serviceName",
                VpcEndpointType="vpcEndpointType",
                SubnetIds="subnetIds",
                SecurityGroupIds="securityGroupIds",
                PrivateDnsEnabled="privateDnsEnabled",
                PolicyDocument="policy",
            ),
        )
        return str(made["VpcEndpoint"]["VpcEndpointId"])

    def read(self, aws: Aws, id_: str, known: Properties) -> Properties | None:
        """Describes it."""
        found = aws.client("ec2").describe_vpc_endpoints(VpcEndpointIds=[id_])["VpcEndpoints"]
        endpoint = first([item for item in found if item["State"] != "deleted"])
        is_gateway = endpoint["VpcEndpointType"] == "Gateway"
        return {
            "vpcId": endpoint["VpcId"],
            "serviceName": endpoint["ServiceName"],
            "vpcEndpointType": endpoint["VpcEndpointType"],
            "state": "available",
            "arn": aws.arn("ec2", f"vpc-endpoint/{id_}"),
            "ownerId": aws.account,
            "prefixListId": f"pl-{id_.removeprefix('vpce-')[:8]}" if is_gateway else "",
            "networkInterfaceIds": endpoint.get("NetworkInterfaceIds", []),
            "dnsEntries": [{"dnsName": e.get("DnsName")} for e in endpoint.get("DnsEntries", [])],
        }

    def delete(self, aws: Aws, id_: str, known: Properties) -> None:
        """Removes it."""
        aws.client("ec2").delete_vpc_endpoints(VpcEndpointIds=[id_])


class LaunchTemplate:
    """aws.ec2.LaunchTemplate. Of its content moto gets what instances of a node group are launched with."""

    def create(self, aws: Aws, inputs: Properties) -> str:
        """Makes a template with version 1."""
        made = aws.client("ec2").create_launch_template(
            LaunchTemplateName=name_of(inputs),
            LaunchTemplateData=self._data(inputs),
            TagSpecifications=_specified("launch-template", inputs),
        )
        return str(made["LaunchTemplate"]["LaunchTemplateId"])

    def _data(self, inputs: Properties) -> Properties:
        data = given(inputs, ImageId="imageId", InstanceType="instanceType", UserData="userData")
        metadata = part(inputs, "metadataOptions")
        if metadata:
            names = {"HttpTokens": "httpTokens", "HttpEndpoint": "httpEndpoint"}
            data["MetadataOptions"] = given(metadata, **names)
            hops = metadata.get("httpPutResponseHopLimit")
            if hops is not None:
                data["MetadataOptions"]["HttpPutResponseHopLimit"] = int(hops)
        market = part(inputs, "instanceMarketOptions")
        if market:
            data["InstanceMarketOptions"] = given(market, MarketType="marketType")
        return data or {"EbsOptimized": False}

    def read(self, aws: Aws, id_: str, known: Properties) -> Properties | None:
        """Describes it."""
        found = aws.client("ec2").describe_launch_templates(LaunchTemplateIds=[id_])["LaunchTemplates"]
        template = first(found)
        return {
            "name": template["LaunchTemplateName"],
            "latestVersion": template["LatestVersionNumber"],
            "defaultVersion": template["DefaultVersionNumber"],
            "arn": aws.arn("ec2", f"launch-template/{id_}"),
        }

    def update(self, aws: Aws, id_: str, old: Properties, new: Properties) -> None:
        """Makes another version where more than tags and the default changed, as the real provider does."""
        ec2 = aws.client("ec2")
        apart = {"tags", "defaultVersion", "updateDefaultVersion", "description"}
        if {k: v for k, v in old.items() if k not in apart} != {
            k: v for k, v in new.items() if k not in apart
        }:
            made = ec2.create_launch_template_version(
                LaunchTemplateId=id_, LaunchTemplateData=self._data(new)
            )
            number = made["LaunchTemplateVersion"]["VersionNumber"]
            if new.get("updateDefaultVersion"):
                ec2.modify_launch_template(LaunchTemplateId=id_, DefaultVersion=str(number))
        if new.get("defaultVersion"):
            ec2.modify_launch_template(LaunchTemplateId=id_, DefaultVersion=str(int(new["defaultVersion"])))

    def delete(self, aws: Aws, id_: str, known: Properties) -> None:
        """Removes it with its versions."""
        aws.client("ec2").delete_launch_template(LaunchTemplateId=id_)


class VpnGateway(Tagged):
    """aws.ec2.VpnGateway."""

    def create(self, aws: Aws, inputs: Properties) -> str:
        """Makes one and attaches it to its VPC."""
        ec2 = aws.client("ec2")
        made = ec2.create_vpn_gateway(Type="ipsec.1", TagSpecifications=_specified("vpn-gateway", inputs))
        id_ = str(made["VpnGateway"]["VpnGatewayId"])
        if inputs.get("vpcId"):
            ec2.attach_vpn_gateway(VpnGatewayId=id_, VpcId=inputs["vpcId"])
        return id_

    def read(self, aws: Aws, id_: str, known: Properties) -> Properties | None:
        """Describes it."""
        found = aws.client("ec2").describe_vpn_gateways(VpnGatewayIds=[id_])["VpnGateways"]
        gateway = first([item for item in found if item.get("State") != "deleted"])
        attached = [item for item in gateway.get("VpcAttachments", []) if item["State"] == "attached"]
        return {
            "vpcId": attached[0]["VpcId"] if attached else "",
            "amazonSideAsn": str(known.get("amazonSideAsn") or "64512"),
            "arn": aws.arn("ec2", f"vpn-gateway/{id_}"),
        }

    def delete(self, aws: Aws, id_: str, known: Properties) -> None:
        """Detaches and removes it."""
        ec2 = aws.client("ec2")
        if known.get("vpcId"):
            ec2.detach_vpn_gateway(VpnGatewayId=id_, VpcId=known["vpcId"])
        ec2.delete_vpn_gateway(VpnGatewayId=id_)


class CustomerGateway(Tagged):
    """aws.ec2.CustomerGateway."""

    def create(self, aws: Aws, inputs: Properties) -> str:
        """Makes one."""
        made = aws.client("ec2").create_customer_gateway(
            Type=inputs["type"],
            BgpAsn=int(inputs.get("bgpAsn") or 65000),
            TagSpecifications=_specified("customer-gateway", inputs),
            **given(inputs, IpAddress="ipAddress"),
        )
        return str(made["CustomerGateway"]["CustomerGatewayId"])

    def read(self, aws: Aws, id_: str, known: Properties) -> Properties | None:
        """Describes it."""
        found = aws.client("ec2").describe_customer_gateways(CustomerGatewayIds=[id_])["CustomerGateways"]
        gateway = first([item for item in found if item.get("State") != "deleted"])
        return {
            "ipAddress": gateway.get("IpAddress", ""),
            "bgpAsn": str(gateway.get("BgpAsn", "")),
            "arn": aws.arn("ec2", f"customer-gateway/{id_}"),
        }

    def delete(self, aws: Aws, id_: str, known: Properties) -> None:
        """Removes it."""
        aws.client("ec2").delete_customer_gateway(CustomerGatewayId=id_)


class VpnConnection(Tagged):
    """aws.ec2.VpnConnection. Its tunnels have addresses that are for documentation and lead nowhere."""

    def create(self, aws: Aws, inputs: Properties) -> str:
        """Makes one."""
        made = aws.client("ec2").create_vpn_connection(
            Type=inputs["type"],
            CustomerGatewayId=inputs["customerGatewayId"],
            **given(inputs, VpnGatewayId="vpnGatewayId"),
        )
        return str(made["VpnConnection"]["VpnConnectionId"])

    def read(self, aws: Aws, id_: str, known: Properties) -> Properties | None:
        """Describes it."""
        found = aws.client("ec2").describe_vpn_connections(VpnConnectionIds=[id_])["VpnConnections"]
        connection = first([item for item in found if item.get("State") != "deleted"])
        tunnels = {
            key: value
            for number, outside in ((1, "192.0.2.1"), (2, "192.0.2.2"))
            for key, value in {
                f"tunnel{number}Address": outside,
                f"tunnel{number}PresharedKey": known.get(f"tunnel{number}PresharedKey") or "rehearsal-only",
                f"tunnel{number}InsideCidr": known.get(f"tunnel{number}InsideCidr")
                or f"169.254.{number}.0/30",
                f"tunnel{number}CgwInsideAddress": f"169.254.{number}.2",
                f"tunnel{number}VgwInsideAddress": f"169.254.{number}.1",
                f"tunnel{number}BgpAsn": "64512",
                f"tunnel{number}BgpHoldtime": 30,
            }.items()
        }
        return {
            **tunnels,
            # moto cannot change them, so what the state says of them is newer.
            "customerGatewayId": known.get("customerGatewayId") or connection["CustomerGatewayId"],
            "vpnGatewayId": known.get("vpnGatewayId") or connection.get("VpnGatewayId", ""),
            "customerGatewayConfiguration": "<vpn_connection/>",
            "arn": aws.arn("ec2", f"vpn-connection/{id_}"),
        }

    def delete(self, aws: Aws, id_: str, known: Properties) -> None:
        """Removes it."""
        aws.client("ec2").delete_vpn_connection(VpnConnectionId=id_)


KINDS = (
    kind("aws:ec2/vpc:Vpc", Vpc(), "cidrBlock ipv4IpamPoolId ipv4NetmaskLength", "ec2.ModifyVpcAttribute"),
    kind(
        "aws:ec2/subnet:Subnet",
        Subnet(),
        "availabilityZone availabilityZoneId cidrBlock vpcId outpostArn ipv6Native",
        "ec2.ModifySubnetAttribute",
    ),
    kind("aws:ec2/internetGateway:InternetGateway", InternetGateway(), ""),
    kind("aws:ec2/eip:Eip", Eip(), "domain networkBorderGroup publicIpv4Pool address"),
    kind(
        "aws:ec2/natGateway:NatGateway",
        NatGateway(),
        "allocationId connectivityType privateIp subnetId vpcId availabilityMode",
    ),
    kind(
        "aws:ec2/securityGroup:SecurityGroup",
        SecurityGroup(),
        "description name namePrefix vpcId",
        "ec2.ModifySecurityGroupRules",
        name_length=255,
    ),
    kind(
        "aws:ec2/vpcEndpoint:VpcEndpoint",
        VpcEndpoint(),
        "serviceName vpcEndpointType vpcId serviceRegion",
        "ec2.ModifyVpcEndpoint",
    ),
    kind(
        "aws:ec2/launchTemplate:LaunchTemplate",
        LaunchTemplate(),
        "name namePrefix",
        "ec2.CreateLaunchTemplateVersion",
        name_length=128,
    ),
    kind("aws:ec2/vpnGateway:VpnGateway", VpnGateway(), "amazonSideAsn availabilityZone"),
    kind(
        "aws:ec2/customerGateway:CustomerGateway",
        CustomerGateway(),
        "bgpAsn bgpAsnExtended certificateArn deviceName ipAddress type",
    ),
    kind(
        "aws:ec2/vpnConnection:VpnConnection",
        VpnConnection(),
        "type staticRoutesOnly enableAcceleration tunnelInsideIpVersion outsideIpAddressType",
        "ec2.ModifyVpnConnection ec2.ModifyVpnConnectionOptions",
    ),
)
