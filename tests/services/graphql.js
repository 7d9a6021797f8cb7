// A GraphQL server with a subscription, made with graphql-ws. It accepts one token only.
const { GraphQLFloat, GraphQLNonNull, GraphQLObjectType, GraphQLSchema, GraphQLString } = require("graphql");
const { useServer } = require("graphql-ws/use/ws");
const { WebSocketServer } = require("ws");

async function* prices(_, { product }) {
    for (let price = 100; ; price += 1) {
        yield { price };
        await new Promise((resolve) => setTimeout(resolve, 100));
    }
}
const price = {
    type: GraphQLFloat,
    args: { product: { type: new GraphQLNonNull(GraphQLString) } },
    subscribe: prices,
};
const schema = new GraphQLSchema({
    query: new GraphQLObjectType({ name: "Query", fields: { version: { type: GraphQLString, resolve: () => "1" } } }),
    subscription: new GraphQLObjectType({ name: "Subscription", fields: { price } }),
});
const server = new WebSocketServer({ port: Number(process.argv[2]), host: "127.0.0.1", path: "/graphql" });
useServer({ schema, onConnect: ({ connectionParams }) => connectionParams?.token === "secret" }, server);
